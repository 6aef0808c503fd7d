/* Small helpers: files, mounts, and words for whoever reads the console. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

/* One line to the kernel's log, so that it stands in order with what the kernel says. */
static void log_line(const char *level, const char *format, va_list arguments)
{
	char line[512];
	size_t used;

	snprintf(line, sizeof(line), "%shostabi: ", agent.pid1 ? level : "");
	used = strlen(line);
	vsnprintf(line + used, sizeof(line) - used - 1, format, arguments);
	used = strlen(line);
	line[used++] = '\n';

	int fd = agent.pid1 ? open("/dev/kmsg", O_WRONLY | O_CLOEXEC) : dup(2);
	if (fd < 0)
		return;
	if (write(fd, line, used) < 0)
		errno = 0;	/* nobody is left to tell */
	close(fd);
}

void say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_line("", format, arguments);
	va_end(arguments);
}

void complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_line("<3>", format, arguments);
	va_end(arguments);
}

void note(struct notes *notes, const char *format, ...)
{
	size_t space = sizeof(notes->text) - notes->length;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(notes->text + notes->length, space, format, arguments);
	va_end(arguments);
	if (length >= 0 && (size_t)length < space)
		notes->length += (size_t)length + 1;
}

/* For PID 1 this is a kernel panic, which the host learns of with the console's tail. */
void die(const char *what)
{
	complain("%s: %s", what, strerror(errno));
	exit(1);
}

ssize_t read_file(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t got = 0;

	if (fd < 0)
		return -errno;
	while (got < size - 1) {
		ssize_t n = read(fd, buffer + got, size - 1 - got);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	close(fd);
	buffer[got] = '\0';
	return (ssize_t)got;
}

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int result = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		result = -errno;
	close(fd);
	return result;
}

/* Makes the folder and those above it; one that is there already is fine. */
int make_folder(const char *path, mode_t mode)
{
	char part[256];
	size_t length = strlen(path);

	if (length >= sizeof(part))
		return -ENAMETOOLONG;
	for (size_t i = 1; i <= length; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, i == length ? mode : 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	return chmod(path, mode) < 0 ? -errno : 0;
}

int mount_at(const char *type, const char *path, unsigned long flags, const char *data)
{
	make_folder(path, 0755);
	return mount(type, path, type, flags, data) < 0 ? -errno : 0;
}
