"""Celery tasks that publish into `sse-fast serve`: any number of workers, on any machine, of any pool.

celery --app celery_tasks worker; then: python -c 'import celery_tasks; celery_tasks.build.delay("42")'
"""

import os

import celery

import sse_fast

app = celery.Celery("tasks", broker=os.environ["BROKER"])
app.conf.task_acks_late = True  # A task that loses its worker is run again, by another.

# One for the process; those of the prefork pool begin with no connection, and each opens its own.
client = sse_fast.connect(os.environ["SSE_FAST_URL"], key=os.environ["SSE_FAST_KEY"])


@app.task(bind=True, autoretry_for=(sse_fast.Unreachable,), retry_backoff=True)
def build(self, name):
    stream = client.stream(f"builds/{name}")
    # Run again within five minutes, the task publishes nothing twice.
    stream.publish({"process": os.getpid()}, event="STARTED", idempotency_key=f"{self.request.id}-started")
    stream.publish({"artifact": f"{name}.whl"}, event="DONE", idempotency_key=f"{self.request.id}-done")
