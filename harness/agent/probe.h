/* The probe: a static program that tells, from inside a container, what a
 * process there sees and what it is allowed to do.
 *
 *     probe ACTION [ARGUMENT...] [, ACTION [ARGUMENT...]]...
 *
 * Each action prints one line of JSON, flushed before the next one starts.
 * Strings are bytes: every byte is one character U+0000..U+00FF, so any path
 * or environment survives; the host turns them back (hostabi/oci/seen.py).
 */
#ifndef HOSTABI_PROBE_H
#define HOSTABI_PROBE_H

#include <stdbool.h>
#include <stddef.h>

/* probe_json.c: a writer that puts the commas where they belong. A key of
 * NULL writes an element of an array. */
void json_open(const char *key, char bracket);
void json_close(char bracket);
void json_text(const char *key, const char *value);
void json_bytes(const char *key, const char *value, size_t length);
void json_number(const char *key, long long value);
void json_unsigned(const char *key, unsigned long long value);
void json_bool(const char *key, bool value);
void json_line_begin(void);
void json_line_end(void);

/* At most `size` bytes of a file; the count, or -errno. Never blocks on a file
 * that has nothing to say. */
long read_file(const char *path, char *into, size_t size);

/* probe_report.c: everything a process can see about itself. */
void report(int argc, char **argv);

/* probe_deeds.c: one thing tried, and how it ended. False: no such action. */
bool deed(int argc, char **argv);

enum { DATA_LIMIT = 65536 };

/* How the deed under way ended; a deed fills it in. */
struct outcome {
	long long value;
	int error;  /* errno, 0 when the deed was done */
	int signal; /* what ended the child that did it */
	char data[DATA_LIMIT];
	size_t length;
};
extern struct outcome out;

/* What a child passes on, through shared memory, so that it survives a kill. */
struct shared {
	long long value;
	int error;
};

/* Run `work` in a child and take over its value and how it ended. */
void in_child(void (*work)(struct shared *shared, int argc, char **argv), int argc, char **argv);

/* The system call NUMBER ARGUMENT... of a deed's words from the second on; "=text"
 * is a string, all else a number. */
long long numbered_call(int argc, char **argv);

/* probe_limits.c: deeds that run into a limit, each in a child. */
void do_descriptors(int argc, char **argv);
void do_fill(int argc, char **argv);
void do_fork(int argc, char **argv);
void do_lock(int argc, char **argv);
void do_spin(int argc, char **argv);
void do_touch(int argc, char **argv);

/* probe_resources.c: deeds for what a control group shares out, and for mounts. */
void do_hold(int argc, char **argv);
void do_huge(int argc, char **argv);
void do_idmap(int argc, char **argv);
void do_pace(int argc, char **argv);
void do_pull(int argc, char **argv);

/* probe_seccomp.c: deeds for each action of a filter, and a listener. */
void do_compat(int argc, char **argv);
void do_interrupt(int argc, char **argv);
void do_listen(int argc, char **argv);
void do_thread(int argc, char **argv);
void do_trace(int argc, char **argv);
void do_trap(int argc, char **argv);

/* probe_bundle.c: deeds beside the containers, for their bundles. */
void do_bundle(int argc, char **argv);
void do_discard(int argc, char **argv);

/* probe_process.c: deeds about the process itself. */
void do_become(int argc, char **argv);
void do_clock(int argc, char **argv);
void do_exit(int argc, char **argv);
void do_into(int argc, char **argv);
void do_scheduler(int argc, char **argv);
void do_stdin(int argc, char **argv);
void do_terminal(int argc, char **argv);
void do_window(int argc, char **argv);

#endif
