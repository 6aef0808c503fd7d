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

#endif
