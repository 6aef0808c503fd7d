/* The probe's command line; see probe.h. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

long read_file(const char *path, char *into, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	size_t done = 0;
	ssize_t got = 0;

	if (fd < 0)
		return -errno;
	while (done < size && (got = read(fd, into + done, size - done)) > 0)
		done += (size_t)got;
	int error = got < 0 ? errno : 0;
	close(fd);
	return error ? -error : (long)done;
}

int main(int argc, char **argv)
{
	char **whole = calloc((size_t)argc + 1, sizeof(*whole));
	int from = 1;

	if (!whole) {
		perror("probe");
		return 1;
	}
	memcpy(whole, argv, (size_t)argc * sizeof(*whole));
	/* A reader that went away must show as an error, not as a signal. */
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		fputs("usage: probe ACTION [ARGUMENT...] [, ACTION [ARGUMENT...]]...\n", stderr);
		return 2;
	}
	while (from < argc) {
		int to = from;

		while (to < argc && strcmp(argv[to], ",") != 0)
			to++;
		if (to > from) {
			/* Actions see their own arguments as a NULL-terminated vector. */
			argv[to] = NULL;
			if (strcmp(argv[from], "report") == 0) {
				report(argc, whole);
			} else if (!deed(to - from, argv + from)) {
				fprintf(stderr, "probe: no such action, or too few arguments: %s\n",
					argv[from]);
				return 2;
			}
		}
		from = to + 1;
	}
	return 0;
}
