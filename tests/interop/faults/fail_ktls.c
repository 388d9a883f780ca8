// SPDX-License-Identifier: Apache-2.0
/* Starts a program for which the kernel refuses keys: fail-ktls tx|rx ENOENT|ENOMEM FILE PROGRAM
 * [ARGUMENT...]
 *
 * While FILE exists, setsockopt(SOL_TLS, TLS_TX or TLS_RX) fails in PROGRAM and all that it starts.
 * A FILE that is there from the start is a fault that the broker's probe sees; one that comes later
 * makes connections fail. For tests only.
 *
 * A seccomp filter hands these calls to a process of ours, which refuses them or lets the kernel go
 * on. */

#include <errno.h>
#include <linux/tls.h>
#include <poll.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kSolTls = 282 };

static void die(const char* what) {
  perror(what);
  exit(125);
}

/* Decides about each call, until no process with the filter is left. */
static void decide(int notifications, int error, const char* file) {
  struct seccomp_notif* request = NULL;
  struct seccomp_notif_resp* response = NULL;
  if (seccomp_notify_alloc(&request, &response) != 0) die("seccomp_notify_alloc");
  struct pollfd waiting = {.fd = notifications, .events = POLLIN};
  while (poll(&waiting, 1, -1) == 1 && (waiting.revents & POLLIN)) {
    memset(request, 0, sizeof(*request)); /* else the call gives EINVAL */
    if (seccomp_notify_receive(notifications, request) != 0) continue; /* the caller died */
    const int refuse = access(file, F_OK) == 0;
    *response = (struct seccomp_notif_resp){.id = request->id};
    response->error = refuse ? -error : 0;
    response->flags = refuse ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    seccomp_notify_respond(notifications, response); /* fails if the caller died */
  }
}

static int load_filter(int option) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  if (filter == NULL) die("seccomp_init");
  const int failed = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0) ||
                     seccomp_rule_add(filter, SCMP_ACT_NOTIFY, SCMP_SYS(setsockopt), 2,
                                      SCMP_A1_32(SCMP_CMP_EQ, kSolTls, 0),
                                      SCMP_A2_32(SCMP_CMP_EQ, (scmp_datum_t)option, 0)) ||
                     seccomp_load(filter);
  if (failed) die("seccomp filter");
  return seccomp_notify_fd(filter);
}

/* Runs decide() in a grandchild, so that PROGRAM has no child that it did not start. The grandchild
 * must not have the filter itself, or it would wait for ever for the last process with the filter
 * to end. So it is started before the filter is loaded, and fetches the descriptor afterwards. */
static void run_decider(int parent, int numbers, int ready, int error, const char* file) {
  int number = -1;
  if (read(numbers, &number, sizeof(number)) != sizeof(number)) exit(125);
  const int process = (int)syscall(SYS_pidfd_open, parent, 0);
  const int notifications = (int)syscall(SYS_pidfd_getfd, process, number, 0);
  if (notifications < 0) die("pidfd_getfd");
  if (write(ready, "", 1) != 1) die("write");
  close(ready);
  decide(notifications, error, file);
  exit(0);
}

int main(int argc, char** argv) {
  if (argc < 5) {
    fprintf(stderr, "usage: fail-ktls tx|rx ENOENT|ENOMEM FILE PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  const int option = strcmp(argv[1], "tx") == 0 ? TLS_TX : TLS_RX;
  const int error = strcmp(argv[2], "ENOENT") == 0 ? ENOENT : ENOMEM;
  const int self = (int)getpid();
  int numbers[2], ready[2];
  if (pipe(numbers) != 0 || pipe(ready) != 0) die("pipe");
  const pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    close(ready[0]);
    if (fork() == 0) run_decider(self, numbers[0], ready[1], error, argv[3]);
    _exit(0);
  }
  waitpid(child, NULL, 0);
  const int notifications = load_filter(option);
  char byte;
  close(ready[1]);
  if (write(numbers[1], &notifications, sizeof(notifications)) != sizeof(notifications) ||
      read(ready[0], &byte, 1) != 1) {
    die("the deciding process");
  }
  close(notifications);
  close(numbers[0]);
  close(numbers[1]);
  close(ready[0]);
  execv(argv[4], argv + 4);
  die(argv[4]);
}
