// A file system whose every operation takes as long as one says, for ever if need be: a slow disk,
// a dead one.
//
//   slow-disk MOUNTPOINT FILES SIZE [keep-cache] [direct-io] [cache-names] [interruptible]
//             [one-inode]
//
// Mounts itself at MOUNTPOINT, prints {"mounted":MOUNTPOINT}, and goes with its standard input. It
// has FILES files of SIZE bytes, "0", "1", ..., each with bytes of its own, and what is created
// beside them, which it keeps in memory. An answer waits on no other: any number of reads is on its
// way at once (FUSE_ASYNC_READ).
//
//   keep-cache     an open leaves in the page cache what is there, and doesn't begin anew
//   direct-io      nothing comes into the page cache
//   cache-names    the kernel asks for a name and for attributes only once
//   interruptible  who is killed while it waits gets an error at once, as with NFS; without this
//                  the kernel lets it go only where it waits for a page of the page cache
//   one-inode      stat() tells the same inode number of all files
//
// It answers each line that comes in with a line of JSON:
//
//   delay OPERATION MS   an operation takes so many milliseconds from now on, or "never" returns
//   release              answers all that waits, and waits no more
//   counts               of each operation: how many wait, how many did at most, how many came
#define _GNU_SOURCE
#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#define NEVER INT64_MAX
#define MOST_CREATED 1024
#define MOST_NAME 64
#define MOST_IN_FLIGHT 65535  // the kernel's own limit, which stands at 12 if nobody asks for more
#define FIRST_FILE (FUSE_ROOT_ID + 1)
#define LONG_SECONDS 1e6

enum operation {
  LOOKUP,
  GETATTR,
  SETATTR,
  OPEN,
  CREATE,
  READ,
  WRITE,
  FLUSH,
  RELEASE,
  FSYNC,
  LSEEK,
  UNLINK,
  STATFS,
  OPERATIONS
};
static const char* const names[OPERATIONS] = {"lookup", "getattr", "setattr", "open",    "create",
                                              "read",   "write",   "flush",   "release", "fsync",
                                              "lseek",  "unlink",  "statfs"};

// A request that has come, and what is needed to answer it.
struct request {
  struct request* next;
  fuse_req_t handle;
  enum operation operation;
  int64_t due;
  fuse_ino_t file;
  off_t offset;
  size_t size;
  int whence;
  char name[MOST_NAME];
  char* data;
  struct fuse_file_info info;
};

struct created {
  char name[MOST_NAME];  // none: unlinked, or free
  char* data;
  size_t size, room;
};

static long files;
static off_t file_size;
static int keep_cache, direct_io, interruptible, one_inode;
static double name_seconds;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;  // guards what follows
static pthread_cond_t changed;
static struct request* waiting;
static int64_t delays[OPERATIONS];
static struct { long waiting, most, total; } counts[OPERATIONS];
static struct created created[MOST_CREATED];
static int created_count;

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

// Content.

static struct created* created_of(fuse_ino_t file) {
  return file < (fuse_ino_t)(FIRST_FILE + files) ? NULL : &created[file - FIRST_FILE - files];
}

// Of the files that are there from the beginning: 32-bit words that tell the file and the place.
static void fill(char* bytes, uint32_t file, off_t offset, size_t count) {
  uint32_t mark = (file + 1) * 0x9e3779b1u;
  for (size_t at = 0; at < count;) {
    uint32_t word = (uint32_t)((offset + at) / 4) * 0x85ebca6bu ^ mark;
    size_t within = (offset + at) % 4, part = 4 - within;
    if (part > count - at) part = count - at;
    memcpy(bytes + at, (char*)&word + within, part);
    at += part;
  }
}

static int attributes(fuse_ino_t file, struct stat* status) {
  memset(status, 0, sizeof *status);
  status->st_ino = one_inode ? FUSE_ROOT_ID + 1 : file;
  status->st_nlink = 1;
  status->st_blksize = 4096;
  if (file == FUSE_ROOT_ID) {
    status->st_mode = S_IFDIR | 0755;
    return 1;
  }
  struct created* own = created_of(file);
  if (own && own - created >= created_count) return 0;
  status->st_mode = S_IFREG | 0644;
  status->st_size = own ? (off_t)own->size : file_size;
  status->st_blocks = (status->st_size + 511) / 512;
  return 1;
}

static fuse_ino_t find(const char* name) {
  for (int i = 0; i < created_count; ++i)
    if (strcmp(created[i].name, name) == 0) return FIRST_FILE + files + i;
  char* end;
  long number = strtol(name, &end, 10);
  return *end == 0 && end != name && number < files ? (fuse_ino_t)(FIRST_FILE + number) : 0;
}

static int resize(struct created* file, size_t size) {
  if (size > file->room) {
    char* data = realloc(file->data, size * 2);
    if (!data) return ENOMEM;
    file->data = data;
    file->room = size * 2;
  }
  if (size > file->size) memset(file->data + file->size, 0, size - file->size);
  file->size = size;
  return 0;
}

// Answers. With the mutex held.

static void answer_read(struct request* request) {
  struct stat status;
  attributes(request->file, &status);
  size_t left = request->offset < status.st_size ? status.st_size - request->offset : 0;
  size_t count = request->size < left ? request->size : left;
  struct created* own = created_of(request->file);
  if (own) {
    fuse_reply_buf(request->handle, own->data + request->offset, count);
    return;
  }
  char* bytes = malloc(count + 1);
  fill(bytes, request->file - FIRST_FILE, request->offset, count);
  fuse_reply_buf(request->handle, bytes, count);
  free(bytes);
}

static void answer_write(struct request* request) {
  struct created* own = created_of(request->file);
  size_t end = request->offset + request->size;
  int error = !own ? EROFS : end > own->size ? resize(own, end) : 0;
  if (error) {
    fuse_reply_err(request->handle, error);
    return;
  }
  memcpy(own->data + request->offset, request->data, request->size);
  fuse_reply_write(request->handle, request->size);
}

static void answer_entry(struct request* request) {
  struct fuse_entry_param entry = {.attr_timeout = name_seconds, .entry_timeout = name_seconds};
  if (request->operation == CREATE && created_count < MOST_CREATED)
    memcpy(created[created_count++].name, request->name, MOST_NAME);
  entry.ino = find(request->name);
  if (!entry.ino) {
    fuse_reply_err(request->handle, request->operation == CREATE ? ENOSPC : ENOENT);
    return;
  }
  attributes(entry.ino, &entry.attr);
  if (request->operation == CREATE)
    fuse_reply_create(request->handle, &entry, &request->info);
  else
    fuse_reply_entry(request->handle, &entry);
}

static void answer_attributes(struct request* request) {
  struct stat status;
  struct created* own = created_of(request->file);
  int error = request->operation == SETATTR && own ? resize(own, request->size) : 0;
  if (!error && !attributes(request->file, &status)) error = ENOENT;
  if (error)
    fuse_reply_err(request->handle, error);
  else
    fuse_reply_attr(request->handle, &status, name_seconds);
}

static void answer_lseek(struct request* request) {
  struct stat status;
  attributes(request->file, &status);
  if (request->offset >= status.st_size)
    fuse_reply_err(request->handle, ENXIO);
  else
    fuse_reply_lseek(request->handle,
                     request->whence == SEEK_DATA ? request->offset : status.st_size);
}

static void answer(struct request* request) {
  --counts[request->operation].waiting;
  switch (request->operation) {
    case LOOKUP:
    case CREATE:
      answer_entry(request);
      break;
    case GETATTR:
    case SETATTR:
      answer_attributes(request);
      break;
    case OPEN:
      fuse_reply_open(request->handle, &request->info);
      break;
    case READ:
      answer_read(request);
      break;
    case WRITE:
      answer_write(request);
      break;
    case LSEEK:
      answer_lseek(request);
      break;
    case STATFS:
      fuse_reply_statfs(request->handle,
                        &(struct statvfs){.f_bsize = 4096, .f_namemax = MOST_NAME});
      break;
    case UNLINK:
      for (int i = 0; i < created_count; ++i)
        if (strcmp(created[i].name, request->name) == 0) created[i].name[0] = 0;
      // fall through
    default:
      fuse_reply_err(request->handle, 0);
  }
  free(request->data);
  free(request);
}

// Answers what is due, and tells when that is of the next.
static int64_t answer_due(int64_t time) {
  int64_t next = NEVER;
  for (struct request** link = &waiting; *link;) {
    struct request* request = *link;
    if (request->due > time) {
      if (request->due < next) next = request->due;
      link = &request->next;
    } else {
      *link = request->next;
      answer(request);
    }
  }
  return next;
}

static void* run_clock(void* nothing) {
  pthread_mutex_lock(&mutex);
  for (;;) {
    int64_t next = answer_due(now());
    if (next == NEVER) {
      pthread_cond_wait(&changed, &mutex);
    } else {
      struct timespec until = {next / 1000000000, next % 1000000000};
      pthread_cond_timedwait(&changed, &mutex, &until);
    }
  }
  return nothing;
}

static void interrupt(struct request** link) {
  struct request* request = *link;
  *link = request->next;
  --counts[request->operation].waiting;
  fuse_reply_err(request->handle, EINTR);
  free(request->data);
  free(request);
}

static void on_interrupt(fuse_req_t handle, void* nothing) {
  (void)nothing;
  pthread_mutex_lock(&mutex);
  struct request** link = &waiting;
  while (*link && (*link)->handle != handle) link = &(*link)->next;
  if (*link) interrupt(link);
  pthread_mutex_unlock(&mutex);
}

// Requests, as they come.

static struct request* request_of(enum operation operation, fuse_req_t handle, fuse_ino_t file) {
  struct request* request = calloc(1, sizeof *request);
  request->operation = operation;
  request->handle = handle;
  request->file = file;
  return request;
}

static void put(struct request* request) {
  enum operation operation = request->operation;
  if (interruptible) fuse_req_interrupt_func(request->handle, on_interrupt, NULL);
  pthread_mutex_lock(&mutex);
  ++counts[operation].total;
  if (++counts[operation].waiting > counts[operation].most)
    counts[operation].most = counts[operation].waiting;
  int64_t delay = delays[operation];
  if (delay == 0) {
    answer(request);
  } else {
    request->due = delay == NEVER ? NEVER : now() + delay;
    request->next = waiting;
    waiting = request;
    // Before it was in the list nobody found it there.
    if (interruptible && fuse_req_interrupted(request->handle)) interrupt(&waiting);
    pthread_cond_signal(&changed);
  }
  pthread_mutex_unlock(&mutex);
}

static void put_name(enum operation operation, fuse_req_t handle, const char* name,
                     const struct fuse_file_info* info) {
  struct request* request = request_of(operation, handle, 0);
  snprintf(request->name, MOST_NAME, "%s", name);
  if (info) request->info = *info;
  put(request);
}

static void on_lookup(fuse_req_t handle, fuse_ino_t parent, const char* name) {
  (void)parent;
  put_name(LOOKUP, handle, name, NULL);
}

static void on_create(fuse_req_t handle, fuse_ino_t parent, const char* name, mode_t mode,
                      struct fuse_file_info* info) {
  (void)parent;
  (void)mode;
  info->keep_cache = keep_cache;
  info->direct_io = direct_io;
  put_name(CREATE, handle, name, info);
}

static void on_unlink(fuse_req_t handle, fuse_ino_t parent, const char* name) {
  (void)parent;
  put_name(UNLINK, handle, name, NULL);
}

static void on_open(fuse_req_t handle, fuse_ino_t file, struct fuse_file_info* info) {
  struct request* request = request_of(OPEN, handle, file);
  request->info = *info;
  request->info.keep_cache = keep_cache;
  request->info.direct_io = direct_io;
  put(request);
}

static void on_setattr(fuse_req_t handle, fuse_ino_t file, struct stat* wanted, int which,
                       struct fuse_file_info* info) {
  (void)info;
  struct request* request =
      request_of(which & FUSE_SET_ATTR_SIZE ? SETATTR : GETATTR, handle, file);
  request->size = wanted->st_size;
  put(request);
}

static void on_read(fuse_req_t handle, fuse_ino_t file, size_t size, off_t offset,
                    struct fuse_file_info* info) {
  (void)info;
  struct request* request = request_of(READ, handle, file);
  request->size = size;
  request->offset = offset;
  put(request);
}

static void on_write(fuse_req_t handle, fuse_ino_t file, const char* bytes, size_t size,
                     off_t offset, struct fuse_file_info* info) {
  (void)info;
  struct request* request = request_of(WRITE, handle, file);
  request->size = size;
  request->offset = offset;
  request->data = malloc(size + 1);
  memcpy(request->data, bytes, size);
  put(request);
}

static void on_lseek(fuse_req_t handle, fuse_ino_t file, off_t offset, int whence,
                     struct fuse_file_info* info) {
  (void)info;
  struct request* request = request_of(LSEEK, handle, file);
  request->offset = offset;
  request->whence = whence;
  put(request);
}

#define ON(function, operation)                                                           \
  static void function(fuse_req_t handle, fuse_ino_t file, struct fuse_file_info* info) { \
    (void)info;                                                                           \
    put(request_of(operation, handle, file));                                             \
  }
ON(on_getattr, GETATTR)
ON(on_flush, FLUSH)
ON(on_release, RELEASE)

static void on_fsync(fuse_req_t handle, fuse_ino_t file, int only_data,
                     struct fuse_file_info* info) {
  (void)only_data;
  (void)info;
  put(request_of(FSYNC, handle, file));
}

static void on_statfs(fuse_req_t handle, fuse_ino_t file) {
  put(request_of(STATFS, handle, file));
}

static void on_init(void* user, struct fuse_conn_info* connection) {
  (void)user;
  connection->want |= connection->capable & FUSE_CAP_ASYNC_READ;
  connection->max_background = MOST_IN_FLIGHT;
  connection->congestion_threshold = MOST_IN_FLIGHT;
}

static const struct fuse_lowlevel_ops operations = {
    .init = on_init,
    .lookup = on_lookup,
    .getattr = on_getattr,
    .setattr = on_setattr,
    .open = on_open,
    .create = on_create,
    .read = on_read,
    .write = on_write,
    .flush = on_flush,
    .release = on_release,
    .fsync = on_fsync,
    .lseek = on_lseek,
    .unlink = on_unlink,
    .statfs = on_statfs,
};

// Commands.

static int operation_of(const char* name) {
  for (int i = 0; i < OPERATIONS; ++i)
    if (strcmp(names[i], name) == 0) return i;
  return -1;
}

static const char* obey(char* line) {
  char name[16], length[16];
  if (strcmp(line, "release\n") == 0) {
    memset(delays, 0, sizeof delays);
    answer_due(NEVER);
    return "{}";
  }
  if (strcmp(line, "counts\n") == 0) {
    static char text[2048];
    size_t used = 0;
    for (int i = 0; i < OPERATIONS; ++i)
      used += snprintf(text + used, sizeof text - used,
                       "%c\"%s\":{\"waiting\":%ld,\"most\":%ld,\"total\":%ld}", i == 0 ? '{' : ',',
                       names[i], counts[i].waiting, counts[i].most, counts[i].total);
    snprintf(text + used, sizeof text - used, "}");
    return text;
  }
  if (sscanf(line, "delay %15s %15s", name, length) == 2 && operation_of(name) >= 0) {
    int64_t delay = strcmp(length, "never") == 0 ? NEVER : (int64_t)(atof(length) * 1e6);
    delays[operation_of(name)] = delay;
    return "{}";
  }
  return "{\"error\":\"no such command\"}";
}

static void* run_commands(void* mountpoint) {
  char line[128];
  while (fgets(line, sizeof line, stdin)) {
    pthread_mutex_lock(&mutex);
    const char* text = obey(line);
    puts(text);
    fflush(stdout);
    pthread_mutex_unlock(&mutex);
  }
  // Whoever still waits gets an error when this process is gone.
  umount2(mountpoint, MNT_DETACH);
  _exit(0);
}

static void start(void* (*body)(void*), void* argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, argument) != 0) exit(1);
}

int main(int argc, char** argv) {
  if (argc < 4) {
    fprintf(stderr,
            "usage: slow-disk MOUNTPOINT FILES SIZE [keep-cache] [direct-io] [cache-names] "
            "[interruptible] [one-inode]\n");
    return 2;
  }
  files = atol(argv[2]);
  file_size = atoll(argv[3]);
  for (int i = 4; i < argc; ++i) {
    if (strcmp(argv[i], "keep-cache") == 0) keep_cache = 1;
    if (strcmp(argv[i], "direct-io") == 0) direct_io = 1;
    if (strcmp(argv[i], "interruptible") == 0) interruptible = 1;
    if (strcmp(argv[i], "one-inode") == 0) one_inode = 1;
    if (strcmp(argv[i], "cache-names") == 0) name_seconds = LONG_SECONDS;
  }
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&changed, &attributes);

  char* arguments[] = {argv[0], "-o", "fsname=slow-disk,subtype=slow-disk,allow_other", NULL};
  struct fuse_args args = FUSE_ARGS_INIT(3, arguments);
  struct fuse_session* session = fuse_session_new(&args, &operations, sizeof operations, NULL);
  if (!session || fuse_session_mount(session, argv[1]) != 0) return 1;
  signal(SIGTERM, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  start(run_clock, NULL);
  start(run_commands, argv[1]);
  printf("{\"mounted\":\"%s\"}\n", argv[1]);
  fflush(stdout);
  return fuse_session_loop(session) == 0 ? 0 : 1;
}
