// floor: what no server can do without: one send() for each subscriber and event, on one thread. Part of `make compare`.
//
// Owns: the least that a loop of system calls costs on this machine, as the unit that servers are measured in. Must not
// know: streams, resuming, slow readers (it waits for each), anything else a server is for.
//
// Orders, one per line on standard input, as loadtest/server.py takes them: `p SEQ COUNT ...` publishes COUNT events
// from number SEQ on. --heartbeat S sends every subscriber a heartbeat every S seconds, spread over time.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096, MOST_FILES = 1 << 20, TURN_MS = 20 };
static const char HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char HEARTBEAT[] = "d\r\n: heartbeat\n\n\r\n";

static int *subscribers, count, bytes = 100, epoll_fd;
static char *frame, *data;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

// Sends all of it; waits for a reader that is full, because the floor keeps no queue.
static void send_all(int fd, const char *at, size_t left) {
  while (left) {
    ssize_t sent = send(fd, at, left, MSG_NOSIGNAL);
    if (sent >= 0) {
      at += sent;
      left -= (size_t)sent;
    } else if (errno == EAGAIN) {
      struct pollfd full = {.fd = fd, .events = POLLOUT};
      poll(&full, 1, -1);
    } else {
      return;
    }
  }
}

static void publish(int64_t seq) {
  int size = snprintf(data, (size_t)bytes + 64, "{\"seq\":%" PRId64 ",\"t\":%" PRId64 ",\"pad\":\"", seq, now());
  while (size < bytes - 2) data[size++] = 'x';
  data[size++] = '"';
  data[size++] = '}';
  int body = snprintf(NULL, 0, "id: %" PRId64 "\ndata: ", seq) + size + 2;
  int length = sprintf(frame, "%x\r\nid: %" PRId64 "\ndata: %.*s\n\n\r\n", body, seq, size, data);
  for (int i = 0; i < count; i++) send_all(subscribers[i], frame, (size_t)length);
}

// Obeys every whole line that has arrived; returns 0 when standard input has ended.
static int obey(void) {
  static char line[1 << 16];
  static size_t have;
  ssize_t got = read(STDIN_FILENO, line + have, sizeof line - have - 1);
  if (got <= 0) return 0;
  have += (size_t)got;
  line[have] = 0;
  char *at = line, *end;
  while ((end = strchr(at, '\n'))) {
    int64_t seq;
    int events;
    if (sscanf(at, "p %" SCNd64 " %d", &seq, &events) == 2)
      for (int i = 0; i < events; i++) publish(seq + i);
    at = end + 1;
  }
  have = (size_t)(line + have - at);
  memmove(line, at, have);
  return 1;
}

static void greet(int listener) {
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    struct epoll_event interest = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &interest);
  }
}

static void answer(int fd) {
  char request[2048];
  ssize_t got = recv(fd, request, sizeof request, 0);
  epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
  if (got <= 0) {
    close(fd);
    return;
  }
  subscribers[count++] = fd;
  send_all(fd, HEAD, sizeof HEAD - 1);
}

// The share of all heartbeats that is due after `seconds` more.
static void beat(double seconds, double every) {
  static double due;
  static int next;
  if (!count) return;
  for (due += count * seconds / every; due >= 1; due -= 1) {
    next = (next + 1) % count;
    send_all(subscribers[next], HEARTBEAT, sizeof HEARTBEAT - 1);
  }
}

int main(int argc, char **argv) {
  static const struct option known[] = {{"bytes", 1, 0, 'b'}, {"heartbeat", 1, 0, 'h'}, {0, 0, 0, 0}};
  double every = 0;
  for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    if (option == 'b') bytes = atoi(optarg);
    else if (option == 'h') every = atof(optarg);
    else return 2;
  }
  if (argc - optind != 1) {
    fprintf(stderr, "floor [--bytes N] [--heartbeat S] PORT\n");
    return 2;
  }
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  subscribers = calloc(MOST_FILES, sizeof *subscribers);
  frame = malloc((size_t)bytes + 256);
  data = malloc((size_t)bytes + 128);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[optind]))};
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, (void *)&at, sizeof at) || listen(listener, BACKLOG)) {
    perror("listen");
    return 1;
  }
  epoll_fd = epoll_create1(0);
  struct epoll_event interest = {.events = EPOLLIN, .data.fd = listener}, ready[512];
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &interest);
  interest.data.fd = STDIN_FILENO;
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &interest);
  int64_t before = now();
  for (;;) {
    int events = epoll_wait(epoll_fd, ready, 512, every > 0 ? TURN_MS : -1);
    for (int i = 0; i < events; i++) {
      int fd = ready[i].data.fd;
      if (fd == listener) greet(listener);
      else if (fd != STDIN_FILENO) answer(fd);
      else if (!obey()) return 0;
    }
    if (every > 0) {
      int64_t t = now();
      beat((double)(t - before) / 1e9, every);
      before = t;
    }
  }
}
