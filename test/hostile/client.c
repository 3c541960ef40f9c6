// Clients that are a server's worst: they read slowly or not at all, break off anywhere, ask for
// thousands of things at once; and check every byte that they get. Of those in good behaviour every
// answer must be whole.
//
//   client NAME=VALUE...
//
//   kind=get|raw|upload|put|copy   HTTP GET of files; the same over a bare connection; uploads,
//   bare
//                                  or by HTTP; copies of files that the server makes
//   port=, or socket=              where the server is, on the loopback interface
//   files=MARK:SIZE,...            what it serves, filled as marks.h says
//   ways=NAME,...                  of the server, one for each request
//   query=                         behind the path of a GET
//   ranges=1                       of a file: any range, and not all of it
//   lengths=LEAST-MOST             of ranges and of uploads
//   folder=, first-id=             where uploads and copies arrive: ID is name, mark, and counted
//   up count=, at-once=, rate=        connections in all, at once, a second requests=, pipelined=1
//   on each connection; without waiting for the answers seconds=, patience=            when to
//   begin no more; most without a byte stop=never|anywhere|FROM-TO    where to break off:
//   connection i after FROM + i bytes, again and
//                                  again; as often as not that is beyond the last one
//   of=received|sent               which bytes
//   how=reset|close|half           RST, whatever close(2) sends, or the end of what is sent alone
//   chunk=BYTES, every=MS          most that is read or written at a time, and how often
//   hold=MS                        before it begins to read
//   receive-buffer=BYTES
//   whole=0                        answers may break off, or be refused
//   seed=
//
// Prints what became of it as JSON. Ends with 1 if anything was wrong, and says what on stderr.
#include "answers.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/un.h>

#define MOST_COMPLAINTS 10
#define HEAD_BYTES 200  // about what an answer has beside its body

typedef struct {
  int fd;
  uint64_t index;
  Range* asked;  // with a place for each request
  uint64_t asked_count, answered;
  Answer answer;
  char* out;  // the text of requests
  size_t out_size, out_sent;
  Range body;  // that follows it
  uint64_t body_sent;
  uint64_t sent, received, stop_at;
  int sends_no_more;
  double reads_from, next, last_progress;
} Connection;

static Options options;
static double now;
static struct {
  uint64_t connections, requests, whole, broken, refused, stopped, files, bytes, complaints;
} counts;

static uint64_t any(uint64_t most) {
  static uint64_t state;
  if (state == 0) state = options.seed * 0x9e3779b97f4a7c15u + 1;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state % (most + 1);
}

static void complain(const Connection* connection, const char* what) {
  if (++counts.complaints > MOST_COMPLAINTS) return;
  fprintf(stderr, "client: connection %llu, answer %llu of %llu, byte %llu: %s\n",
          (unsigned long long)connection->index, (unsigned long long)connection->answered,
          (unsigned long long)options.requests, (unsigned long long)connection->received, what);
}

static int open_connection(void) {
  struct sockaddr_in address = loopback_address(options.port);
  struct sockaddr_un path = {.sun_family = AF_UNIX};
  int fd = socket(options.socket ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0) fail("socket");
  int size = options.receive_buffer;
  if (size && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) != 0) fail("SO_RCVBUF");
  int on = 1;
  if (!options.socket) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (options.socket) strncpy(path.sun_path, options.socket, sizeof path.sun_path - 1);
  int result = options.socket ? connect(fd, (struct sockaddr*)&path, sizeof path)
                              : connect(fd, (struct sockaddr*)&address, sizeof address);
  if (result != 0 && errno != EINPROGRESS) fail("connect");
  return fd;
}

static Range pick_range(void) {
  File file = options.files[any(options.file_count - 1)];
  Range range = {.mark = file.mark, .length = file.size};
  if (!options.ranges || file.size == 0) return range;
  range.offset = any(file.size - 1);
  uint64_t left = file.size - range.offset;
  uint64_t most = options.most < left ? options.most : left;
  range.length = most <= options.least ? most : options.least + any(most - options.least);
  if (range.length == 0) range.length = 1;
  return range;
}

// Writes the next request, behind those that have not gone.
static void ask(Connection* connection) {
  char text[512];
  const char* way = options.ways[any(options.way_count - 1)];
  Range range = {.mark = 0};
  if (options.kind == GET || options.kind == RAW) {
    range = pick_range();
  } else if (options.kind == COPY) {
    File file = options.files[any(options.file_count - 1)];
    range = (Range){file.mark, file.size, 0, options.first_id++};
  } else {
    uint64_t length = options.least + any(options.most - options.least);
    uint32_t id = options.first_id++;
    connection->body = (Range){id, 0, length, id};
    connection->body_sent = 0;
    range = (Range){id, length, 0, id};
  }
  unsigned long long from = range.offset, size = range.length;
  if (options.kind == GET) {
    char field[100] = "";
    if (options.ranges && size > 0)
      snprintf(field, sizeof field, "Range: bytes=%llu-%llu\r\n", from, from + size - 1);
    snprintf(text, sizeof text, "GET /%s/%u%s HTTP/1.1\r\nHost: h\r\n%s\r\n", way, range.mark,
             options.query, field);
  } else if (options.kind == RAW) {
    snprintf(text, sizeof text, "%s %u %llu %llu\n", way, range.mark, from, size);
  } else if (options.kind == UPLOAD) {
    snprintf(text, sizeof text, "%s %u 0 %llu\n", way, range.mark, from);
  } else if (options.kind == PUT) {
    snprintf(text, sizeof text, "PUT /%s/%u HTTP/1.1\r\nHost: h\r\nContent-Length: %llu\r\n\r\n",
             way, range.mark, from);
  } else {
    snprintf(text, sizeof text, "copy %u %u 0\n", range.mark, range.name);
  }
  size_t length = strlen(text);
  size_t left = connection->out_size - connection->out_sent;
  memmove(connection->out, connection->out + connection->out_sent, left);
  connection->out = realloc(connection->out, left + length);
  if (!connection->out) fail("realloc");
  memcpy(connection->out + left, text, length);
  connection->out_size = left + length;
  connection->out_sent = 0;
  connection->asked[connection->asked_count++] = range;
  ++counts.requests;
}

static Connection* begin(void) {
  Connection* connection = calloc(1, sizeof *connection);
  if (!connection) fail("calloc");
  connection->asked = calloc(options.requests, sizeof *connection->asked);
  if (!connection->asked) fail("calloc");
  connection->fd = open_connection();
  connection->index = counts.connections++;
  connection->last_progress = now;
  connection->reads_from = now + options.hold;
  uint64_t first = options.pipelined ? options.requests : 1;
  for (uint64_t i = 0; i < first; ++i) ask(connection);
  connection->stop_at = NEVER;
  if (options.stops_anywhere && options.stops_sending) {
    connection->stop_at = any(connection->out_size + connection->body.length);
  } else if (options.stops_anywhere) {
    uint64_t bytes = HEAD_BYTES;
    for (uint64_t i = 0; i < first; ++i) bytes += connection->asked[i].length;
    connection->stop_at = any(bytes);
  } else if (options.stops) {
    uint64_t span = options.stop_to - options.stop_from + 1;
    connection->stop_at = options.stop_from + connection->index % span;
  }
  return connection;
}

static void end(Connection* connection) {
  close(connection->fd);
  free(connection->asked);
  free(connection->out);
  free(connection);
}

// Breaks off. True if that was the connection's end.
static int stop(Connection* connection) {
  connection->stop_at = NEVER;
  ++counts.stopped;
  if (options.how == HALF) {
    shutdown(connection->fd, SHUT_WR);
    connection->sends_no_more = 1;
    return 0;
  }
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  if (options.how == RESET)
    setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  return 1;
}

// What has arrived in a file of the server.
static const char* check_file(uint32_t name, uint32_t mark, uint64_t length) {
  static unsigned char bytes[1 << 16];
  char path[4096];
  snprintf(path, sizeof path, "%s/%u", options.folder, name);
  off_t size;
  int fd = open_file(path, &size);
  const char* complaint = (uint64_t)size == length ? NULL : "ANOTHER LENGTH of a file";
  for (uint64_t at = 0; !complaint && at < length;) {
    ssize_t got = pread(fd, bytes, sizeof bytes, at);
    if (got <= 0) fail("pread");
    complaint = check_bytes(bytes, got, mark, at, &options);
    at += got;
  }
  close(fd);
  if (!complaint) unlink(path);
  ++counts.files;
  counts.bytes += length;
  return complaint;
}

// An answer is whole. True if that was the connection's end.
static int answered(Connection* connection, const char** complaint) {
  Range range = connection->asked[connection->answered++];
  Answer* answer = &connection->answer;
  if (answer->refused) {
    ++counts.refused;
    if (options.must_be_whole) *complaint = "REFUSED";
  } else {
    ++counts.whole;
    if (options.kind != GET && options.kind != RAW)
      *complaint = check_file(range.name, range.mark, range.offset);
  }
  *answer = (Answer){0};
  if (*complaint || connection->answered == options.requests) return 1;
  if (connection->answered == connection->asked_count && !connection->sends_no_more)
    ask(connection);
  return 0;
}

// The server has closed, or reset. Always the connection's end.
static const char* closed(Connection* connection) {
  if (connection->answered == connection->asked_count && connection->sends_no_more) return NULL;
  ++counts.broken;
  return options.must_be_whole && options.how != HALF ? "BROKEN OFF" : NULL;
}

static uint64_t least_of(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

// Each returns true at the connection's end, also if there is something to complain about.
static int receive(Connection* connection, const char** complaint) {
  static unsigned char bytes[1 << 18];
  uint64_t room = least_of(sizeof bytes, options.chunk);
  if (!options.stops_sending) room = least_of(room, connection->stop_at - connection->received);
  if (room == 0) return 0;
  ssize_t got = recv(connection->fd, bytes, room, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (got <= 0) {
    *complaint = closed(connection);
    return 1;
  }
  connection->received += got;
  connection->last_progress = now;
  counts.bytes += got;
  for (ssize_t at = 0; at < got;) {
    if (connection->answered == connection->asked_count) {
      *complaint = "AN ANSWER to nothing";
      return 1;
    }
    int whole;
    Range range = connection->asked[connection->answered];
    at += take(&connection->answer, bytes + at, got - at, range, &options, &whole, complaint);
    if (*complaint) return 1;
    if (whole && answered(connection, complaint)) {
      if (at < got && !*complaint) *complaint = "MORE BYTES than those of the last answer";
      return 1;
    }
  }
  return 0;
}

static int send_some(Connection* connection, const char** complaint) {
  static unsigned char bytes[1 << 16];
  const void* from = connection->out + connection->out_sent;
  uint64_t size = connection->out_size - connection->out_sent;
  int text = size > 0;
  if (!text) {
    size = least_of(sizeof bytes, connection->body.length - connection->body_sent);
    fill(bytes, size, connection->body.mark, connection->body_sent);
    from = bytes;
  }
  size = least_of(size, options.chunk);
  if (options.stops_sending) size = least_of(size, connection->stop_at - connection->sent);
  ssize_t sent = send(connection->fd, from, size, MSG_NOSIGNAL);
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (sent < 0) {
    *complaint = closed(connection);
    return 1;
  }
  connection->sent += sent;
  connection->last_progress = now;
  if (text)
    connection->out_sent += sent;
  else
    connection->body_sent += sent;
  return 0;
}

static int wants_to_send(const Connection* connection) {
  return !connection->sends_no_more && (connection->out_sent < connection->out_size ||
                                        connection->body_sent < connection->body.length);
}

static short wanted(const Connection* connection) {
  if (now < connection->next) return 0;
  return (wants_to_send(connection) ? POLLOUT : 0) | (now >= connection->reads_from ? POLLIN : 0);
}

static int must_stop(const Connection* connection) {
  uint64_t count = options.stops_sending ? connection->sent : connection->received;
  return count >= connection->stop_at;
}

// Whatever there is to do on a connection. True at its end.
static int serve(Connection* connection, short events) {
  const char* complaint = NULL;
  int over = 0;
  if (events && options.every > 0) connection->next = now + options.every;
  if (must_stop(connection) && !wants_to_send(connection)) over = stop(connection);
  if (!over && events & POLLOUT && wants_to_send(connection))
    over = send_some(connection, &complaint);
  if (!over && options.stops_sending && must_stop(connection)) over = stop(connection);
  if (!over && events & (POLLIN | POLLHUP | POLLERR)) over = receive(connection, &complaint);
  if (!over && must_stop(connection)) over = stop(connection);
  if (!over && now - connection->last_progress > options.patience) {
    complaint = "NOTHING for so long";
    over = 1;
  }
  if (complaint) complain(connection, complaint);
  if (over) end(connection);
  return over;
}

int main(int argc, char** argv) {
  options = parse_options(argc, argv);
  signal(SIGPIPE, SIG_IGN);
  double began = seconds_of(CLOCK_MONOTONIC);
  Connection** open = calloc(options.at_once, sizeof *open);
  struct pollfd* polled = calloc(options.at_once, sizeof *polled);
  if (!open || !polled) fail("calloc");
  nfds_t count = 0;
  for (;;) {
    now = seconds_of(CLOCK_MONOTONIC) - began;
    int time_is_up = options.seconds > 0 && now > options.seconds;
    uint64_t due = options.rate > 0 ? (uint64_t)(now * options.rate) + 1 : NEVER;
    uint64_t most = time_is_up ? 0 : least_of(options.count, due);
    while (count < options.at_once && counts.connections < most) open[count++] = begin();
    if (count == 0 && (time_is_up || counts.connections == options.count)) break;
    for (nfds_t i = 0; i < count; ++i) {
      short events = wanted(open[i]);
      // What waits for its time hears of nothing: poll(2) would tell of a reset again and again.
      polled[i] = (struct pollfd){.fd = events ? open[i]->fd : -1, .events = events};
    }
    poll(polled, count, 1);
    now = seconds_of(CLOCK_MONOTONIC) - began;
    for (nfds_t i = count; i-- > 0;)
      if (serve(open[i], polled[i].revents)) open[i] = open[--count];
  }
#define COUNT(name) "\"" #name "\":%llu,"
  printf("{" COUNT(connections) COUNT(requests) COUNT(whole) COUNT(broken) COUNT(refused)
             COUNT(stopped) COUNT(files) COUNT(bytes) COUNT(complaints) "\"seconds\":%.3f}\n",
         (unsigned long long)counts.connections, (unsigned long long)counts.requests,
         (unsigned long long)counts.whole, (unsigned long long)counts.broken,
         (unsigned long long)counts.refused, (unsigned long long)counts.stopped,
         (unsigned long long)counts.files, (unsigned long long)counts.bytes,
         (unsigned long long)counts.complaints, now);
  return counts.complaints > 0;
}
