// subscribers: thousands of SSE subscriptions to any server, counted and timed by one thread. Part of `make compare`.
//
// Owns: connections, the account of every event, delays. Must not know: which server it reads, what is published when.
// It recognises an event by its data, whatever the framing around it: "seq":<number>,"t":<publish time, ns>. So servers
// that merge events into one, or wrap data in an object of their own, are counted all the same.
//
// It prints one JSON line when every connection has its response head, and one when it is over: at the line `over` on
// standard input, or, after the line `published`, once no event has come for QUIET seconds. Then it waits, connections
// open, until standard input ends, so that whoever measures the server sees it before it has thousands of closes to
// handle. `published N` says how many events each subscriber is owed: `exact` then counts those for whom what came and
// what was announced as skipped is just that. `{}` in PATH stands for the subscriber's number.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  REST_BYTES = 96,        // More than the longest `"seq":...,"t":...,`: what may be cut by the end of a read.
  STEPS = 32,             // Buckets from each power of two nanoseconds to the next, so of 3 % at most.
  TIME_BUCKETS = 60 * STEPS,
  MOST_EVENTS = 1 << 20,  // Numbers up to here are followed to the last subscriber.
  MOST_PENDING = 3000,    // Connects in flight: fewer than any server's backlog, so that no SYN is lost to us.
  PER_ADDRESS = 5000,     // Connections from one source address: a free port is found at once.
};

typedef enum { ABSENT, CONNECTING, ASKED, LIVE, STALLED, CLOSED } State;

typedef struct {
  int fd;
  State state;
  int rest;          // Bytes kept from the last read.
  int64_t last;      // The newest event's number; -1 before the first.
  int64_t delivered, announced;  // Events that came, and those that gap events said were skipped.
  char kept[REST_BYTES];
} Subscriber;

typedef struct {
  int64_t published, last_arrival;
  uint32_t arrivals;
} Event;

static struct {
  int port, count, stalled, receive_bytes;
  double ramp, quiet;
  const char *path;
} options = {.count = 1000, .ramp = 4000, .quiet = 3, .receive_bytes = 4096};

static Subscriber *subscribers;
static Event *events;
static uint64_t delays[TIME_BUCKETS];
static struct {
  uint64_t events, bytes, gaps, missed, announced, repeats, refused, closed, timed;
} sums;
static int started, answered, epoll_fd;
static int64_t newest_arrival, owed;
static char refusal[64];

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

// The C library's own takes a third of the client's time where millions of events a second come.
static int64_t digits(char *at, char **after) {
  uint64_t number = 0;
  for (; *at >= '0' && *at <= '9'; at++) number = number * 10 + (uint64_t)(*at - '0');
  *after = at;
  return (int64_t)number;
}

static int bucket_of(uint64_t delay) {
  if (delay < STEPS) return (int)delay;
  int power = 63 - __builtin_clzll(delay);
  return (power - 4) * STEPS + (int)(delay >> (power - 5)) % STEPS;
}

// Where the bucket ends, in nanoseconds.
static double edge(int bucket) {
  if (bucket < STEPS) return bucket + 1;
  return (double)(bucket % STEPS + STEPS + 1) * (double)(UINT64_C(1) << (bucket / STEPS - 1));
}

static void time_event(int64_t number, int64_t published, int64_t arrival) {
  delays[bucket_of(arrival > published ? (uint64_t)(arrival - published) : 1)]++;
  sums.timed++;
  if (number < 0 || number >= MOST_EVENTS) return;
  Event *event = &events[number];
  event->published = published;
  event->last_arrival = arrival;
  event->arrivals++;
}

static void account(Subscriber *s, int64_t number) {
  sums.events++;
  if (s->last >= 0 && number <= s->last) {
    sums.repeats++;
    return;
  }
  if (s->last >= 0 && number > s->last + 1) {
    sums.gaps++;
    sums.missed += (uint64_t)(number - s->last - 1);
  }
  s->last = number;
  s->delivered++;
}

static const char SEQ[] = "\"seq\":", TIME[] = ",\"t\":", SKIPPED[] = "\"skipped\":";

// Accounts for the gap events between `at` and `end`; returns where one begins whose number may go on, or where
// the part begins that may be the beginning of one.
static char *announced(Subscriber *s, char *at, char *end) {
  for (char *found; (found = memmem(at, (size_t)(end - at), SKIPPED, sizeof SKIPPED - 1));) {
    int64_t number = digits(found + sizeof SKIPPED - 1, &at);
    if (at >= end) return found;
    s->announced += number;
    sums.announced += (uint64_t)number;
  }
  return end - at < (long)sizeof SKIPPED ? at : end - sizeof SKIPPED + 2;
}

// Where the next event is found by its number, or NULL. Events mostly are as long as the one before, which is `guess`;
// it is taken only if its number follows, so nothing between is overlooked.
static char *next(const Subscriber *s, char *at, char *end, char *guess) {
  char *after;
  if (guess && end - guess > (long)sizeof SEQ && memcmp(guess, SEQ, sizeof SEQ - 1) == 0 &&
      digits(guess + sizeof SEQ - 1, &after) == s->last + 1)
    return guess;
  return memmem(at, (size_t)(end - at), SEQ, sizeof SEQ - 1);
}

// Accounts for all whole events between `at` and `end`; returns where the part begins that the next read completes.
static char *scan(Subscriber *s, char *at, char *end, int64_t arrival) {
  for (char *before = NULL, *guess = NULL, *found;; before = found) {
    found = next(s, at, end, guess);
    if (!found) return announced(s, at, end);
    guess = before && found - before < end - found ? found + (found - before) : NULL;
    char *after, *time;
    int64_t number = digits(found + sizeof SEQ - 1, &after);
    bool whole = end - after >= (long)sizeof TIME;
    // A gap event stands before the event it leads to, so who misses nothing is not searched for any.
    if (!whole || number != s->last + 1) announced(s, at, found);
    if (!whole) return found;
    at = found;
    bool timed = memcmp(after, TIME, sizeof TIME - 1) == 0;
    if (timed) {
      int64_t published = digits(after + sizeof TIME - 1, &time);
      if (time == end) return found;  // The number may go on in the next read.
      time_event(number, published, arrival);
    }
    account(s, number);
    newest_arrival = arrival;
    at = after;
  }
}

static void drop(Subscriber *s) {
  close(s->fd);
  s->state = CLOSED;
}

static void start(int index) {
  Subscriber *s = &subscribers[index];
  int one = 1, small = options.receive_bytes;
  s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (s->fd < 0) {
    perror("socket");
    exit(1);
  }
  s->last = -1;
  setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  if (index < options.stalled && small) setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  struct sockaddr_in from = {.sin_family = AF_INET};
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(index / PER_ADDRESS));
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  s->state = CONNECTING;
  if (bind(s->fd, (void *)&from, sizeof from) ||
      (connect(s->fd, (void *)&to, sizeof to) && errno != EINPROGRESS)) {
    sums.refused++;
    drop(s);
    return;
  }
  struct epoll_event interest = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)index};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &interest);
}

static void ask(Subscriber *s, uint32_t index) {
  char request[1024], path[256];
  const char *number = strstr(options.path, "{}");
  if (number) snprintf(path, sizeof path, "%.*s%u%s", (int)(number - options.path), options.path, index, number + 2);
  else snprintf(path, sizeof path, "%s", options.path);
  int size = snprintf(request, sizeof request,
                      "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n", path,
                      options.port);
  if (send(s->fd, request, (size_t)size, MSG_NOSIGNAL) != size) {
    sums.refused++;
    drop(s);
    return;
  }
  s->state = ASKED;
  struct epoll_event interest = {.events = EPOLLIN, .data.u32 = index};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s->fd, &interest);
}

// Looks at the head once it is whole; returns where the body begins, or NULL.
static char *head(Subscriber *s, uint32_t index, char *at, char *end) {
  char *blank = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
  if (!blank) return NULL;
  if (!memmem(at, 16, " 200", 4)) {
    sums.refused++;
    snprintf(refusal, sizeof refusal, "%.*s", (int)strcspn(at, "\r\""), at);
    drop(s);
    return NULL;
  }
  answered++;
  s->state = LIVE;
  if ((int)index < options.stalled) {
    s->state = STALLED;
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
  }
  return blank + 4;
}

static void receive(uint32_t index) {
  static char buffer[(1 << 20) + REST_BYTES + 1];
  Subscriber *s = &subscribers[index];
  memcpy(buffer, s->kept, (size_t)s->rest);
  ssize_t got = recv(s->fd, buffer + s->rest, sizeof buffer - REST_BYTES - 1, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    if (s->state == LIVE) sums.closed++;
    else sums.refused++;
    drop(s);
    return;
  }
  int64_t arrival = now();
  sums.bytes += (uint64_t)got;
  char *at = buffer, *end = buffer + s->rest + got;
  *end = 0;
  if (s->state == ASKED) {
    char *body = head(s, index, at, end);
    if (!body && s->state == ASKED) body = end - at > REST_BYTES - 1 ? end - REST_BYTES + 1 : at;
    else if (body && s->state == LIVE) body = scan(s, body, end, arrival);
    at = body ? body : end;
  } else {
    at = scan(s, at, end, arrival);
  }
  s->rest = (int)(end - at) < REST_BYTES ? (int)(end - at) : 0;
  memcpy(s->kept, at, (size_t)s->rest);
}

static double percentile_ms(double percent) {
  uint64_t seen = 0;
  for (int bucket = 0; bucket < TIME_BUCKETS; bucket++) {
    seen += delays[bucket];
    if (seen && (double)seen >= (double)sums.timed * percent / 100) return edge(bucket) / 1e6;
  }
  return 0;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void report(double connected_s) {
  static double tails[MOST_EVENTS];
  int whole = 0;
  uint32_t readers = (uint32_t)(options.count - options.stalled);
  int exact = 0;
  for (int i = options.stalled; i < options.count; i++)
    exact += owed > 0 && subscribers[i].delivered + subscribers[i].announced == owed;
  int64_t first = INT64_MAX, last = 0;
  for (int number = 0; number < MOST_EVENTS; number++) {
    Event *e = &events[number];
    if (!e->arrivals) continue;
    if (e->published < first) first = e->published;
    if (e->last_arrival > last) last = e->last_arrival;
    if (e->arrivals >= readers) tails[whole++] = (double)(e->last_arrival - e->published) / 1e6;
  }
  qsort(tails, (size_t)whole, sizeof *tails, by_value);
  double span = last > first ? (double)(last - first) / 1e9 : 0;
  printf("{\"connected_s\":%.3f,\"events\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"gaps\":%" PRIu64 ",\"missed\":%" PRIu64
         ",\"announced\":%" PRIu64 ",\"exact\":%d,\"repeats\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"closed\":%" PRIu64
         ",\"per_s\":%.0f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"whole\":%d,\"tail_p50_ms\":%.3f,\"tail_p99_ms\":%.3f,"
         "\"refusal\":\"%s\"}\n",
         connected_s, sums.events, sums.bytes, sums.gaps, sums.missed, sums.announced, exact, sums.repeats, sums.refused, sums.closed,
         span > 0 ? (double)sums.events / span : 0, percentile_ms(50), percentile_ms(99), whole,
         whole ? tails[whole / 2] : 0, whole ? tails[(int)(whole * .99)] : 0, refusal);
  fflush(stdout);
}

// Reads what was ordered, one line or both in one read; returns whether it is over.
static bool ordered(int64_t *published) {
  char line[64];
  ssize_t got = read(STDIN_FILENO, line, sizeof line - 1);
  if (got > 0) line[got] = 0;
  if (got > 0 && line[0] == 'p') {
    *published = now();
    sscanf(line, "published %" SCNd64, &owed);
  }
  return got <= 0 || memchr(line, 'o', (size_t)got);
}

static void parse_options(int argc, char **argv) {
  static const struct option known[] = {{"count", 1, 0, 'c'}, {"stalled", 1, 0, 's'}, {"ramp", 1, 0, 'r'},
                                        {"quiet", 1, 0, 'q'}, {"receive", 1, 0, 'b'}, {0, 0, 0, 0}};
  for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    if (option == 'c') options.count = atoi(optarg);
    else if (option == 's') options.stalled = atoi(optarg);
    else if (option == 'r') options.ramp = atof(optarg);
    else if (option == 'q') options.quiet = atof(optarg);
    else if (option == 'b') options.receive_bytes = atoi(optarg);  // Of who stalls; 0: the kernel's own choice.
    else exit(2);
  }
  if (argc - optind != 2) {
    fprintf(stderr, "subscribers [--count N] [--stalled N] [--ramp PER_S] [--quiet S] [--receive BYTES] PORT PATH\n");
    exit(2);
  }
  options.port = atoi(argv[optind]);
  options.path = argv[optind + 1];
}

int main(int argc, char **argv) {
  parse_options(argc, argv);
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  subscribers = calloc((size_t)options.count, sizeof *subscribers);
  events = calloc(MOST_EVENTS, sizeof *events);
  epoll_fd = epoll_create1(0);
  const uint32_t input = UINT32_MAX;
  struct epoll_event interest = {.events = EPOLLIN, .data.u32 = input}, ready[512];
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &interest);
  int64_t began = now();
  double connected_s = 0;
  bool told = false, over = false;
  int64_t published = 0;  // When the publisher was done; 0 before.
  while (!over) {
    int64_t due = (int64_t)((double)(now() - began) / 1e9 * options.ramp) + 1;
    while (started < options.count && started < due && started - answered - (int)sums.refused < MOST_PENDING)
      start(started++);
    int count = epoll_wait(epoll_fd, ready, 512, started < options.count ? 1 : 20);
    for (int i = 0; i < count; i++) {
      uint32_t index = ready[i].data.u32;
      if (index == input) over = ordered(&published);
      else if (subscribers[index].state == CONNECTING) ask(&subscribers[index], index);
      else if (subscribers[index].state != CLOSED) receive(index);
    }
    if (!told && started == options.count && answered + (int)sums.refused >= options.count) {
      told = true;
      connected_s = (double)(now() - began) / 1e9;
      printf("{\"connected_s\":%.3f,\"answered\":%d,\"refused\":%" PRIu64 "}\n", connected_s, answered, sums.refused);
      fflush(stdout);
    }
    int64_t silent_since = published > newest_arrival ? published : newest_arrival;
    if (published && (double)(now() - silent_since) / 1e9 > options.quiet) over = true;
  }
  report(connected_s);
  for (char line[256]; fgets(line, sizeof line, stdin);) {
  }
  return 0;
}
