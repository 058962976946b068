// readers: SSE subscriptions that read in three ways, each with an exact account. Part of `make waiting`.
//
// Owns: connections, three ways to read, the account of every event, delays. Must not know: who publishes, how fast.
//   healthy  reads whatever there is, at once; its delays are counted
//   slow     takes at most TAKE bytes a second, whatever is waiting
//   dead     reads the response head through a small receive buffer, then nothing
// An event's number is the n of its id, `<epoch>-<n>`, so that any number of threads may publish into one stream; its
// data is `{"t":<publish time, ns>}`. The account is that of ledger.py: an event that jumps ahead is missing, a gap
// event moves the account on by what it says was skipped. Changes together with ledger.py and histogram.py, whose
// buckets it fills.
//
// It prints a JSON line once every connection has its head. At the line `drain` on standard input, everyone reads what
// is there; once no event has come for QUIET seconds, or at the line `over`, it prints the accounts. Then it waits,
// connections open, until standard input ends. `{}` in PATH stands for a stream's number below STREAMS.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  MOST = 19000,        // Fewer than the files one process may open.
  LINE_BYTES = 512,    // More than any line of a head or of these events.
  BUCKETS = 800,       // 1 µs times 1.05 to this power is beyond any run.
  STEP_MS = 10,        // How often a slow reader takes its share.
  HOARD_MS = 100,      // What it may make up for at once, when this process did not run for a while.
};

typedef enum { HEALTHY, SLOW, DEAD } Role;
static const char *const ROLES[] = {"healthy", "slow", "dead"};

typedef struct {
  int fd;
  Role role;
  int stream;
  bool head, refused, closed;          // Whether the head is still to end; how the connection ended.
  bool gap;                            // Whether the frame that is being read is a gap event.
  int64_t number;                      // The number of the frame that is being read; -1 without an id.
  int64_t last, delivered, gaps, announced, missing, repeats, unknown;
  int64_t bytes, bytes_before_drain;
  int rest;                            // Bytes of a line whose end has not arrived.
  char kept[LINE_BYTES];
} Reader;

static struct {
  int port, healthy, slow, dead, streams, receive_bytes;
  double take, quiet;
  const char *path;
} options = {.streams = 1, .receive_bytes = 4096, .take = 200000, .quiet = 1};

static Reader *readers;
static int count, epoll_fd, answered, refused;
static int64_t newest_arrival;
static bool draining;
static struct {
  uint64_t buckets[BUCKETS], count;
  double total, greatest;  // Milliseconds.
} delays;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void time_event(int64_t published, int64_t arrival) {
  double milliseconds = fmax((double)(arrival - published) / 1e6, .001);
  int bucket = (int)ceil(log(milliseconds / .001) / log(1.05));
  delays.buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
  delays.count++;
  delays.total += milliseconds;
  delays.greatest = fmax(delays.greatest, milliseconds);
}

static void account(Reader *r, const char *data, int64_t arrival) {
  if (r->gap) {
    const char *skipped = strstr(data, "\"skipped\":");
    char *end = NULL;
    int64_t number = skipped ? strtoll(skipped + 10, &end, 10) : 0;
    if (!skipped || end == skipped + 10) {
      r->unknown++;
      return;
    }
    r->gaps++;
    r->announced += number;
    r->last += number;
    return;
  }
  if (r->number < 0) return;  // No event of this harness.
  newest_arrival = arrival;
  if (r->number <= r->last) {
    r->repeats++;
    return;
  }
  r->missing += r->number - r->last - 1;
  r->delivered++;
  r->last = r->number;
  if (r->role == HEALTHY && strncmp(data, "{\"t\":", 5) == 0) time_event(strtoll(data + 5, NULL, 10), arrival);
}

// One line without its LF, ended by NUL. A line of the chunked framing is none of these, so it changes nothing.
static void line(Reader *r, const char *at, int64_t arrival) {
  if (r->head) {
    if (strncmp(at, "HTTP/", 5) == 0 && !strstr(at, " 200")) r->refused = true;
    if (strcmp(at, "\r") == 0) r->head = false;
  } else if (strncmp(at, "id: ", 4) == 0) {
    const char *dash = strrchr(at, '-');
    r->number = dash ? strtoll(dash + 1, NULL, 10) : -1;
  } else if (strncmp(at, "event: ", 7) == 0) {
    r->gap = strcmp(at + 7, "gap") == 0;
  } else if (strncmp(at, "data: ", 6) == 0) {
    account(r, at + 6, arrival);
  } else if (!*at) {
    r->gap = false;
    r->number = -1;
  }
}

static void close_reader(Reader *r) {
  close(r->fd);
  r->fd = -1;
  r->closed = true;
}

static void stop_polling(Reader *r) { epoll_ctl(epoll_fd, EPOLL_CTL_DEL, r->fd, NULL); }

static void start_polling(Reader *r) {
  struct epoll_event interest = {.events = EPOLLIN, .data.ptr = r};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, r->fd, &interest);
}

static void head_is_whole(Reader *r) {
  if (r->refused) {
    refused++;
    close_reader(r);
    return;
  }
  answered++;
  if (r->role != HEALTHY) stop_polling(r);
}

// Reads once, at most `most` bytes.
static void receive(Reader *r, size_t most) {
  static char buffer[LINE_BYTES + (1 << 20) + 1];
  memcpy(buffer, r->kept, (size_t)r->rest);
  ssize_t got = recv(r->fd, buffer + r->rest, most < 1 << 20 ? most : 1 << 20, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    if (r->head) refused++;
    close_reader(r);
    return;
  }
  int64_t arrival = now();
  r->bytes += got;
  char *at = buffer, *end = buffer + r->rest + got;
  bool head = r->head;
  for (char *lf; (lf = memchr(at, '\n', (size_t)(end - at))); at = lf + 1) {
    *lf = 0;
    line(r, at, arrival);
  }
  if (end - at >= LINE_BYTES) {
    fprintf(stderr, "readers: a line is longer than %d bytes\n", LINE_BYTES);
    exit(3);
  }
  r->rest = (int)(end - at);
  memcpy(r->kept, at, (size_t)r->rest);
  if (head && !r->head) head_is_whole(r);
}

static void connect_reader(Reader *r, Role role, int number) {
  *r = (Reader){.role = role, .stream = number % options.streams, .head = true, .number = -1};
  r->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (r->fd < 0) fail("socket");
  if (role == DEAD && options.receive_bytes)
    setsockopt(r->fd, SOL_SOCKET, SO_RCVBUF, &options.receive_bytes, sizeof options.receive_bytes);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(r->fd, (void *)&to, sizeof to)) fail("connect");
  char request[1024], path[256];
  const char *hole = strstr(options.path, "{}");
  if (hole) snprintf(path, sizeof path, "%.*s%d%s", (int)(hole - options.path), options.path, r->stream, hole + 2);
  else snprintf(path, sizeof path, "%s", options.path);
  int size = snprintf(request, sizeof request,
                      "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n", path,
                      options.port);
  if (send(r->fd, request, (size_t)size, MSG_NOSIGNAL) != size) fail("send");
  fcntl(r->fd, F_SETFL, O_NONBLOCK);
  start_polling(r);
}

// Gives every slow reader what it may take since the last time.
static void let_slow_readers_take(int64_t *since) {
  int64_t at = now(), elapsed = at - *since;
  if (draining || elapsed < STEP_MS * INT64_C(1000000)) return;
  *since = at;
  if (elapsed > HOARD_MS * INT64_C(1000000)) elapsed = HOARD_MS * INT64_C(1000000);
  size_t share = (size_t)(options.take * (double)elapsed / 1e9);
  for (Reader *r = readers; r < readers + count; r++)
    if (r->role == SLOW && r->fd >= 0 && !r->head && share) receive(r, share);
}

static void drain(void) {
  draining = true;
  for (Reader *r = readers; r < readers + count; r++) {
    r->bytes_before_drain = r->bytes;
    if (r->role != HEALTHY && r->fd >= 0 && !r->head) start_polling(r);
  }
}

static void report(void) {
  printf("{\"delays\":{\"count\":%" PRIu64 ",\"total\":%.3f,\"greatest\":%.3f,\"buckets\":{", delays.count,
         delays.total, delays.greatest);
  const char *comma = "";
  for (int bucket = 0; bucket < BUCKETS; bucket++) {
    if (!delays.buckets[bucket]) continue;
    printf("%s\"%d\":%" PRIu64, comma, bucket, delays.buckets[bucket]);
    comma = ",";
  }
  printf("}},\"readers\":[");
  for (Reader *r = readers; r < readers + count; r++)
    printf("%s{\"role\":\"%s\",\"stream\":%d,\"closed\":%s,\"last\":%" PRId64 ",\"delivered\":%" PRId64
           ",\"gaps\":%" PRId64 ",\"announced\":%" PRId64 ",\"missing\":%" PRId64 ",\"repeats\":%" PRId64
           ",\"unknown\":%" PRId64 ",\"bytes_before_drain\":%" PRId64 "}",
           r > readers ? "," : "", ROLES[r->role], r->stream, r->closed ? "true" : "false", r->last, r->delivered,
           r->gaps, r->announced, r->missing, r->repeats, r->unknown, r->bytes_before_drain);
  printf("]}\n");
  fflush(stdout);
}

// Reads what was ordered; returns whether it is over.
static bool ordered(int64_t *drained) {
  char text[64];
  ssize_t got = read(STDIN_FILENO, text, sizeof text);
  if (got <= 0) return true;
  if (text[0] == 'd') {
    drain();
    *drained = now();
  }
  return memchr(text, 'o', (size_t)got) != NULL;
}

static void parse_options(int argc, char **argv) {
  static const struct option known[] = {{"healthy", 1, 0, 'h'}, {"slow", 1, 0, 's'},    {"dead", 1, 0, 'd'},
                                        {"take", 1, 0, 't'},    {"streams", 1, 0, 'n'}, {"receive", 1, 0, 'b'},
                                        {"quiet", 1, 0, 'q'},   {0, 0, 0, 0}};
  for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    if (option == 'h') options.healthy = atoi(optarg);
    else if (option == 's') options.slow = atoi(optarg);
    else if (option == 'd') options.dead = atoi(optarg);
    else if (option == 't') options.take = atof(optarg);
    else if (option == 'n') options.streams = atoi(optarg);
    else if (option == 'b') options.receive_bytes = atoi(optarg);  // Of the dead; 0: the kernel's own choice.
    else if (option == 'q') options.quiet = atof(optarg);
    else exit(2);
  }
  count = options.healthy + options.slow + options.dead;
  if (argc - optind != 2 || count < 1 || count > MOST || options.streams < 1) {
    fprintf(stderr, "readers [--healthy N] [--slow N] [--dead N] [--take BYTES_PER_S] [--streams N] [--receive BYTES] "
                    "[--quiet S] PORT PATH\n");
    exit(2);
  }
  options.port = atoi(argv[optind]);
  options.path = argv[optind + 1];
}

int main(int argc, char **argv) {
  parse_options(argc, argv);
  readers = calloc((size_t)count, sizeof *readers);
  epoll_fd = epoll_create1(0);
  struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL}, ready[512];
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &input);
  Reader *next = readers;
  for (int i = 0; i < options.healthy; i++) connect_reader(next++, HEALTHY, i);
  for (int i = 0; i < options.slow; i++) connect_reader(next++, SLOW, i);
  for (int i = 0; i < options.dead; i++) connect_reader(next++, DEAD, i);
  int64_t taken = now(), drained = 0;  // `drained` is when the order came; 0 before.
  bool told = false, over = false;
  while (!over) {
    int found = epoll_wait(epoll_fd, ready, 512, STEP_MS);
    for (int i = 0; i < found; i++) {
      Reader *r = ready[i].data.ptr;
      if (!r) over = ordered(&drained);
      else if (r->fd >= 0) receive(r, SIZE_MAX);
    }
    let_slow_readers_take(&taken);
    if (!told && answered + refused >= count) {
      told = true;
      printf("{\"answered\":%d,\"refused\":%d}\n", answered, refused);
      fflush(stdout);
    }
    int64_t silent_since = drained > newest_arrival ? drained : newest_arrival;
    if (drained && (double)(now() - silent_since) / 1e9 > options.quiet) over = true;
  }
  report();
  for (char text[256]; fgets(text, sizeof text, stdin);) {
  }
  return 0;
}
