/*
 * The guest's process 1 once it has booted: runs the host's commands. It talks over one port of a virtio console in frames,
 * each a header of three little-endian 32-bit words (type, run, payload length) and at most MAX_PAYLOAD bytes.
 * src/sandbox/frames.ts is the other end and names the same types.
 *
 * Flow control is by credit, per stream: whoever sends data may send WINDOW bytes more than the receiver has consumed,
 * so that a command that nobody reads from delays no other.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_PAYLOAD = 32768, WINDOW = 262144, HEADER = 12, MAX_RUNS = 64, MAX_STRINGS = 4096, OUTBOX = 1 << 20 };

enum frame_type {
  START = 1,        /* host: u32 flags, rows, columns, argc; then NUL-terminated strings: folder, arguments, environment */
  STDIN_DATA = 2,   /* host */
  STDIN_END = 3,    /* host */
  SIGNAL = 4,       /* host: u32 signal, to the run's whole session */
  CREDIT = 5,       /* host: u32 stream (1, 2), u32 bytes; guest: u32 stream (0), u32 bytes */
  RESIZE = 6,       /* host: u32 rows, columns */
  READY = 16,       /* guest: once, with a line about the network, empty if it is up */
  STDOUT_DATA = 17, /* guest */
  STDERR_DATA = 18, /* guest */
  EXIT = 19         /* guest: u32 exit code, or 128 + signal */
};

enum start_flags { TERMINAL = 1 };

struct output {
  int fd; /* -1 once closed */
  uint32_t credit;
};

struct run {
  uint32_t id;
  pid_t pid;
  bool exited; /* the command has ended; what it wrote may still be in the pipes */
  bool reported;
  int status;
  int input; /* -1 once closed */
  bool input_ended;
  size_t input_start, input_length; /* what input_buffer holds */
  struct output outputs[2];         /* standard output, standard error */
  uint8_t *input_buffer;            /* WINDOW bytes */
};

static struct run *runs[MAX_RUNS];
static int port;

/* Frames on their way to the host. */
static uint8_t outbox[OUTBOX];
static size_t outbox_start, outbox_length;

/* The host's frame in the making. */
static uint8_t inbox[HEADER + MAX_PAYLOAD];
static size_t inbox_length;

static void die(const char *what) {
  fprintf(stderr, "slipway agent: %s: %s\n", what, strerror(errno));
  exit(1); /* process 1 ends: the kernel panics, and the host reads this line on the console */
}

static uint32_t word(const uint8_t *bytes) {
  return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void put_word(uint8_t *bytes, uint32_t value) {
  for (int i = 0; i < 4; i++) bytes[i] = value >> 8 * i;
}

static size_t outbox_space(void) {
  return OUTBOX - outbox_length;
}

static uint8_t *outbox_end(void) {
  if (outbox_start + outbox_length + HEADER + MAX_PAYLOAD > OUTBOX) {
    memmove(outbox, outbox + outbox_start, outbox_length);
    outbox_start = 0;
  }
  return outbox + outbox_start + outbox_length;
}

static void send_frame(enum frame_type type, uint32_t id, const void *payload, size_t length) {
  if (outbox_space() < HEADER + length) die("the host does not read");
  uint8_t *end = outbox_end();
  put_word(end, type);
  put_word(end + 4, id);
  put_word(end + 8, length);
  memcpy(end + HEADER, payload, length);
  outbox_length += HEADER + length;
}

static void send_words(enum frame_type type, uint32_t id, uint32_t first, uint32_t second, size_t count) {
  uint8_t payload[8];
  put_word(payload, first);
  put_word(payload + 4, second);
  send_frame(type, id, payload, 4 * count);
}

static void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static struct run *find_run(uint32_t id) {
  for (int i = 0; i < MAX_RUNS; i++)
    if (runs[i] && runs[i]->id == id && !runs[i]->reported) return runs[i];
  return NULL;
}

/* -- starting a command --------------------------------------------------------------------------------------------- */

/* In the child: never returns. */
static void become(char *folder, char **arguments, char **environment) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  environ = environment;
  if (chdir(folder) == 0) execvp(arguments[0], arguments);
  int reason = errno;
  dprintf(2, "slipway: cannot run %s in %s: %s\n", arguments[0], folder, strerror(reason));
  _exit(reason == ENOENT ? 127 : 126);
}

/* A pseudo-terminal as the command's three streams; its output comes back as standard output. */
static void start_on_terminal(struct run *run, uint32_t rows, uint32_t columns, char *folder, char **arguments, char **environment) {
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0) die("pseudo-terminal");
  struct winsize size = {.ws_row = rows, .ws_col = columns};
  ioctl(master, TIOCSWINSZ, &size);
  run->pid = fork();
  if (run->pid < 0) die("fork");
  if (run->pid == 0) {
    setsid();
    int slave = open(ptsname(master), O_RDWR);
    ioctl(slave, TIOCSCTTY, 0);
    for (int fd = 0; fd < 3; fd++) dup2(slave, fd);
    if (slave > 2) close(slave);
    become(folder, arguments, environment);
  }
  fcntl(master, F_SETFL, O_NONBLOCK);
  run->outputs[0].fd = master;
  run->input = fcntl(master, F_DUPFD_CLOEXEC, 0);
}

static void start_on_pipes(struct run *run, char *folder, char **arguments, char **environment) {
  int in[2], out[2], err[2];
  if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) die("pipe");
  run->pid = fork();
  if (run->pid < 0) die("fork");
  if (run->pid == 0) {
    setsid();
    dup2(in[0], 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    become(folder, arguments, environment);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  fcntl(in[1], F_SETFL, O_NONBLOCK);
  fcntl(out[0], F_SETFL, O_NONBLOCK);
  fcntl(err[0], F_SETFL, O_NONBLOCK);
  run->input = in[1];
  run->outputs[0].fd = out[0];
  run->outputs[1].fd = err[0];
}

static void start(uint32_t id, uint8_t *payload, size_t length) {
  char *strings[MAX_STRINGS + 2];
  size_t count = 0;
  if (length < 17 || payload[length - 1] != 0) die("malformed START");
  uint32_t flags = word(payload), rows = word(payload + 4), columns = word(payload + 8), argc = word(payload + 12);
  for (size_t at = 16; at < length && count < MAX_STRINGS; at += strlen((char *)payload + at) + 1)
    strings[count++] = (char *)payload + at;
  if (argc == 0 || count <= argc) die("malformed START");
  int slot = 0;
  while (slot < MAX_RUNS && runs[slot]) slot++;
  if (slot == MAX_RUNS) {
    send_words(EXIT, id, 125, 0, 1);
    return;
  }
  strings[count] = NULL;
  /* The environment begins where the arguments end; a NULL has to come between. */
  memmove(strings + argc + 2, strings + argc + 1, (count - argc) * sizeof *strings);
  strings[argc + 1] = NULL;
  struct run *run = calloc(1, sizeof *run);
  if (!run || !(run->input_buffer = malloc(WINDOW))) die("memory");
  *run = (struct run){.id = id, .input_buffer = run->input_buffer, .outputs = {{-1, WINDOW}, {-1, WINDOW}}};
  runs[slot] = run;
  if (flags & TERMINAL) start_on_terminal(run, rows, columns, strings[0], strings + 1, strings + argc + 2);
  else start_on_pipes(run, strings[0], strings + 1, strings + argc + 2);
}

/* -- the host's frames ------------------------------------------------------------------------------------------------ */

static void take_input(struct run *run, const uint8_t *data, size_t length) {
  if (run->input < 0) {
    send_words(CREDIT, run->id, 0, length, 2);
    return;
  }
  if (run->input_length + length > WINDOW) die("the host overran its window");
  if (run->input_start + run->input_length + length > WINDOW) {
    memmove(run->input_buffer, run->input_buffer + run->input_start, run->input_length);
    run->input_start = 0;
  }
  memcpy(run->input_buffer + run->input_start + run->input_length, data, length);
  run->input_length += length;
}

/* Its whole session; only itself as long as it has not made one. */
static void signal_run(struct run *run, int number) {
  if (kill(-run->pid, number) < 0) kill(run->pid, number);
}

static void handle_frame(uint32_t type, uint32_t id, uint8_t *payload, size_t length) {
  if (type == START) {
    start(id, payload, length);
    return;
  }
  struct run *run = find_run(id);
  if (!run) return; /* it ended while the frame was on its way */
  if (type == STDIN_DATA) take_input(run, payload, length);
  else if (type == STDIN_END) run->input_ended = true;
  else if (type == SIGNAL && length == 4 && !run->exited) signal_run(run, word(payload));
  else if (type == CREDIT && length == 8 && (word(payload) == 1 || word(payload) == 2))
    run->outputs[word(payload) - 1].credit += word(payload + 4);
  else if (type == RESIZE && length == 8) {
    struct winsize size = {.ws_row = word(payload), .ws_col = word(payload + 4)};
    ioctl(run->outputs[0].fd, TIOCSWINSZ, &size);
  } else if (type != SIGNAL && type != CREDIT) die("unknown frame");
}

static void read_port(void) {
  ssize_t got = read(port, inbox + inbox_length, sizeof inbox - inbox_length);
  if (got < 0 && errno != EAGAIN && errno != EINTR) die("read from the host");
  if (got > 0) inbox_length += got;
  size_t at = 0;
  while (inbox_length - at >= HEADER) {
    size_t length = word(inbox + at + 8);
    if (length > MAX_PAYLOAD) die("oversized frame");
    if (inbox_length - at < HEADER + length) break;
    handle_frame(word(inbox + at), word(inbox + at + 4), inbox + at + HEADER, length);
    at += HEADER + length;
  }
  memmove(inbox, inbox + at, inbox_length - at);
  inbox_length -= at;
}

static void write_port(void) {
  if (outbox_length == 0) return;
  ssize_t sent = write(port, outbox + outbox_start, outbox_length);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) die("write to the host");
  if (sent > 0) {
    outbox_start += sent;
    outbox_length -= sent;
  }
  if (outbox_length == 0) outbox_start = 0;
}

/* -- the commands' streams ---------------------------------------------------------------------------------------------- */

/* On a terminal the end of input is a character (EOT), not the end of the file. */
static void end_input(struct run *run) {
  bool terminal = run->outputs[1].fd < 0 && run->outputs[0].fd >= 0 && isatty(run->outputs[0].fd);
  if (terminal && write(run->input, "\4", 1) < 0 && errno == EAGAIN) return;
  close_fd(&run->input);
}

static void write_input(struct run *run) {
  if (run->input < 0) return;
  size_t consumed = 0;
  if (run->input_length > 0) {
    ssize_t sent = write(run->input, run->input_buffer + run->input_start, run->input_length);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      consumed = run->input_length; /* nobody reads it any more */
      close_fd(&run->input);
    } else if (sent > 0) {
      consumed = sent;
    }
    run->input_start += consumed;
    run->input_length -= consumed;
  }
  if (consumed > 0) send_words(CREDIT, run->id, 0, consumed, 2);
  if (run->input >= 0 && run->input_length == 0 && run->input_ended) end_input(run);
}

/* Whether nothing more is to come now. Output that follows the report of the exit, from processes left behind, is dropped. */
static bool read_output(struct run *run, int stream) {
  static uint8_t buffer[MAX_PAYLOAD];
  struct output *output = &run->outputs[stream];
  while (output->fd >= 0) {
    size_t room = run->reported || output->credit > MAX_PAYLOAD ? MAX_PAYLOAD : output->credit;
    if (room == 0 || (!run->reported && outbox_space() < OUTBOX / 2)) return false;
    ssize_t got = read(output->fd, buffer, room);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return true;
    if (got <= 0) {
      close_fd(&output->fd); /* a terminal's end is EIO */
      return true;
    }
    if (run->reported) continue;
    send_frame(stream == 0 ? STDOUT_DATA : STDERR_DATA, run->id, buffer, got);
    output->credit -= got;
  }
  return true;
}

static void reap(void) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
    for (int i = 0; i < MAX_RUNS; i++)
      if (runs[i] && runs[i]->pid == pid && !runs[i]->exited) {
        runs[i]->exited = true;
        runs[i]->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      }
}

static void serve_run(struct run **slot) {
  struct run *run = *slot;
  bool exited = run->exited; /* before the reads: what the command wrote is then in the pipes */
  write_input(run);
  bool first = read_output(run, 0), second = read_output(run, 1);
  if (exited && !run->reported && first && second) {
    send_words(EXIT, run->id, run->status, 0, 1);
    run->reported = true;
    close_fd(&run->input);
  }
  if (run->reported && run->outputs[0].fd < 0 && run->outputs[1].fd < 0) {
    free(run->input_buffer);
    free(run);
    *slot = NULL;
  }
}

/* -- the loop ------------------------------------------------------------------------------------------------------------ */

/* A port's name is vportNpM, where N counts the virtio console devices and M their ports; ours is the only one. */
static int open_port(void) {
  for (int attempt = 0; attempt < 1000; attempt++) {
    DIR *folder = opendir("/dev");
    for (struct dirent *entry; folder && (entry = readdir(folder));)
      if (strncmp(entry->d_name, "vport", 5) == 0) {
        int fd = openat(dirfd(folder), entry->d_name, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) die(entry->d_name);
        closedir(folder);
        return fd;
      }
    if (folder) closedir(folder);
    usleep(10000);
  }
  errno = ENODEV;
  die("/dev/vport*");
  return -1;
}

static int fill_polls(struct pollfd *polls, int signals) {
  int count = 0;
  polls[count++] = (struct pollfd){port, POLLIN | (outbox_length > 0 ? POLLOUT : 0), 0};
  polls[count++] = (struct pollfd){signals, POLLIN, 0};
  for (int i = 0; i < MAX_RUNS; i++) {
    struct run *run = runs[i];
    if (!run) continue;
    if (run->input >= 0 && (run->input_length > 0 || run->input_ended)) polls[count++] = (struct pollfd){run->input, POLLOUT, 0};
    for (int stream = 0; stream < 2; stream++) {
      struct output *output = &run->outputs[stream];
      bool wanted = run->reported || (output->credit > 0 && outbox_space() >= OUTBOX / 2);
      if (output->fd >= 0 && wanted) polls[count++] = (struct pollfd){output->fd, POLLIN, 0};
    }
  }
  return count;
}

int main(int argc, char **argv) {
  static struct pollfd polls[2 + 3 * MAX_RUNS];
  const char *network = argc > 1 ? argv[1] : "";
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  signal(SIGPIPE, SIG_IGN);
  int signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  if (signal_fd < 0) die("signalfd");
  port = open_port();
  send_frame(READY, 0, network, strlen(network));
  for (;;) {
    int count = fill_polls(polls, signal_fd);
    if (poll(polls, count, -1) < 0 && errno != EINTR) die("poll");
    struct signalfd_siginfo ignored;
    while (read(signal_fd, &ignored, sizeof ignored) > 0) continue;
    reap();
    if (polls[0].revents & POLLIN) read_port();
    for (int i = 0; i < MAX_RUNS; i++)
      if (runs[i]) serve_run(&runs[i]);
    write_port();
  }
}
