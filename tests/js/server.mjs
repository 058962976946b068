/**
 * A server for tests that says exactly what it is told to, and remembers what it was asked.
 *
 * Owns: one listening socket, closed with the test. It knows nothing of event streams but their content type.
 */

import { createServer } from "node:http";

/** `answer(request, response, turn)` answers; `request.text` is its body, `request.query` what its URL asks. */
export async function serve(t, answer) {
  const requests = [];
  const server = createServer(async (request, response) => {
    request.text = "";
    for await (const piece of request) request.text += piece;
    request.query = new URL(request.url, "http://x").searchParams;
    requests.push(request);
    answer(request, response, requests.length);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { requests, url: `http://127.0.0.1:${server.address().port}` };
}

export const wantsJson = (request) => request.headers.accept === "application/json";

export function stream(response, text = "") {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.flushHeaders();
  response.write(text);
  return response;
}

export function json(response, body, status = 200, headers = {}) {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

/** The JSON form of a stream that has nothing (more) to give. */
export function nothing(about = {}) {
  return { stream: "s", last_id: null, ended: false, more: false, snapshot: null, gap: null, events: [], ...about };
}

/** Resolves once `condition()` is true. */
export async function until(condition, what = String(condition)) {
  const end = Date.now() + 15_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`${what} did not become true`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
