// What the client is asked to do: `name=value` arguments, explained in client.c.
#pragma once
#include "../../bench/peers/loopback.h"

#include <stdint.h>
#include <string.h>

#define MOST_FILES 256
#define MOST_WAYS 16
#define NEVER UINT64_MAX

typedef enum { GET, RAW, UPLOAD, PUT, COPY } Kind;
typedef enum { RESET, CLOSE, HALF } How;

typedef struct {
  uint32_t mark;
  uint64_t size;
} File;

typedef struct {
  Kind kind;
  int port;
  const char* socket;  // a path, in the place of the port
  const char* ways[MOST_WAYS];
  int way_count;
  File files[MOST_FILES];
  int file_count;
  const char* folder;
  uint32_t first_id;
  uint64_t least, most;  // of a range, or of what is uploaded
  const char* query;
  uint64_t count, at_once, requests;
  double rate, seconds, patience;
  int pipelined, ranges, must_be_whole;
  int stops, stops_anywhere;
  uint64_t stop_from, stop_to;
  How how;
  int stops_sending;
  uint64_t chunk;
  double every, hold;
  int receive_buffer;
  uint64_t seed;
} Options;

static inline void refuse(const char* argument) {
  fprintf(stderr, "client: %s\n", argument);
  exit(2);
}

static inline int choice_of(const char* value, const char* const* names) {
  for (int i = 0; names[i]; ++i)
    if (strcmp(value, names[i]) == 0) return i;
  refuse(value);
  return 0;
}

static inline void parse_list(char* value, Options* options, void (*put)(Options*, char*)) {
  for (char* item = strtok(value, ","); item; item = strtok(NULL, ",")) put(options, item);
}

static inline void put_way(Options* options, char* item) {
  if (options->way_count == MOST_WAYS) refuse("too many ways");
  options->ways[options->way_count++] = item;
}

static inline void put_file(Options* options, char* item) {
  unsigned mark;
  unsigned long long size;
  if (options->file_count == MOST_FILES) refuse("too many files");
  if (sscanf(item, "%u:%llu", &mark, &size) != 2) refuse(item);
  options->files[options->file_count++] = (File){mark, size};
}

static inline void parse_stop(Options* options, const char* value) {
  unsigned long long from, to;
  options->stops = strcmp(value, "never") != 0;
  options->stops_anywhere = strcmp(value, "anywhere") == 0;
  if (!options->stops || options->stops_anywhere) return;
  if (sscanf(value, "%llu-%llu", &from, &to) != 2 || to < from) refuse(value);
  options->stop_from = from;
  options->stop_to = to;
}

static inline void parse_lengths(Options* options, const char* value) {
  unsigned long long least, most;
  if (sscanf(value, "%llu-%llu", &least, &most) != 2 || most < least) refuse(value);
  options->least = least;
  options->most = most;
}

static inline void parse_option(Options* options, char* argument) {
  static const char* const kinds[] = {"get", "raw", "upload", "put", "copy", NULL};
  static const char* const hows[] = {"reset", "close", "half", NULL};
  static const char* const sides[] = {"received", "sent", NULL};
  char* value = strchr(argument, '=');
  if (!value) refuse(argument);
  *value++ = '\0';
#define IS(name) (strcmp(argument, name) == 0)
  if (IS("kind"))
    options->kind = choice_of(value, kinds);
  else if (IS("port"))
    options->port = atoi(value);
  else if (IS("socket"))
    options->socket = value;
  else if (IS("ways"))
    parse_list(value, options, put_way);
  else if (IS("files"))
    parse_list(value, options, put_file);
  else if (IS("folder"))
    options->folder = value;
  else if (IS("first-id"))
    options->first_id = strtoul(value, NULL, 10);
  else if (IS("lengths"))
    parse_lengths(options, value);
  else if (IS("query"))
    options->query = value;
  else if (IS("count"))
    options->count = strtoull(value, NULL, 10);
  else if (IS("at-once"))
    options->at_once = strtoull(value, NULL, 10);
  else if (IS("requests"))
    options->requests = strtoull(value, NULL, 10);
  else if (IS("rate"))
    options->rate = atof(value);
  else if (IS("seconds"))
    options->seconds = atof(value);
  else if (IS("patience"))
    options->patience = atof(value);
  else if (IS("pipelined"))
    options->pipelined = atoi(value);
  else if (IS("ranges"))
    options->ranges = atoi(value);
  else if (IS("whole"))
    options->must_be_whole = atoi(value);
  else if (IS("stop"))
    parse_stop(options, value);
  else if (IS("how"))
    options->how = choice_of(value, hows);
  else if (IS("of"))
    options->stops_sending = choice_of(value, sides);
  else if (IS("chunk"))
    options->chunk = strtoull(value, NULL, 10);
  else if (IS("every"))
    options->every = atof(value) / 1000;
  else if (IS("hold"))
    options->hold = atof(value) / 1000;
  else if (IS("receive-buffer"))
    options->receive_buffer = atoi(value);
  else if (IS("seed"))
    options->seed = strtoull(value, NULL, 10);
  else
    refuse(argument);
#undef IS
}

static inline Options parse_options(int argc, char** argv) {
  Options options = {.count = 1,
                     .at_once = 16,
                     .requests = 1,
                     .patience = 30,
                     .most = 1 << 20,
                     .chunk = 1 << 18,
                     .must_be_whole = 1,
                     .query = "",
                     .seed = 1};
  for (int i = 1; i < argc; ++i) parse_option(&options, argv[i]);
  if (options.way_count == 0) options.ways[options.way_count++] = "pipe";
  if (options.file_count == 0) options.files[options.file_count++] = (File){0, 0};
  return options;
}
