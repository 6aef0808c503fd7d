/*
 * What /hostabi/boot of the initramfs asks for, one directive a line:
 *     file PATH SIZE MODE SUM            must have arrived in the initramfs
 *     module PATH                        loaded in this order; -PATH may fail
 *     cgroup v2|v1
 *     wait MILLISECONDS                  for each device, from when it is needed
 *     disk SERIAL MOUNTPOINT TYPE ro|rw|later
 *     end                                the last line, or the file was cut off
 * and the devices it has to wait for. What cannot be done is told by hello.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

#define DIRECTIVES "/hostabi/boot"
#define WORDS 5
#define END "end\n"

static char directives[65536];
static int uevents = -1;

/* Devices announce themselves here, so that nothing has to look again and again. */
static void watch_devices(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };

	uevents = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			 NETLINK_KOBJECT_UEVENT);
	if (uevents < 0 || bind(uevents, (struct sockaddr *)&address, sizeof(address)) < 0)
		say("no device events: %s", strerror(errno));
}

/* Sleeps until a device comes or goes; false when the deadline has passed. */
static bool wait_device(int64_t deadline)
{
	struct pollfd polled = { .fd = uevents, .events = POLLIN };
	int64_t left = deadline - now_ms();
	char event[4096];

	if (left <= 0)
		return false;
	poll(&polled, 1, (int)left);
	while (recv(uevents, event, sizeof(event), 0) > 0)
		;
	return true;
}

/* Looks in every folder of a class for a file with this one line; fills the folder's name. */
static bool find_by_line(const char *class, const char *file, const char *line, char *name,
			 size_t size)
{
	DIR *dir = opendir(class);
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		char path[512], text[128];

		snprintf(path, sizeof(path), "%s/%s/%s", class, entry->d_name, file);
		if (entry->d_name[0] == '.' || read_file(path, text, sizeof(text)) <= 0)
			continue;
		text[strcspn(text, "\n")] = '\0';
		found = !strcmp(text, line);
		if (found)
			snprintf(name, size, "%s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

static int wait_by_line(const char *class, const char *file, const char *line, int64_t deadline,
			char *device, size_t size)
{
	char name[256];

	while (!find_by_line(class, file, line, name, sizeof(name)))
		if (!wait_device(deadline))
			return -ENODEV;
	snprintf(device, size, "/dev/%s", name);
	return 0;
}

int find_disk(const char *serial, int64_t deadline, char *device, size_t size)
{
	return wait_by_line("/sys/block", "serial", serial, deadline, device, size);
}

int open_port(const char *name, int64_t deadline)
{
	char device[300];
	int error = wait_by_line("/sys/class/virtio-ports", "name", name, deadline, device,
				 sizeof(device));
	int fd = error ? -1 : open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (error)
		errno = -error;
	return fd;
}

/* Splits a directive in place; absent words are empty. */
static void split(char *line, char *words[WORDS])
{
	static char empty[1];
	char *rest = line;

	for (int i = 0; i < WORDS; i++) {
		char *word = rest ? strtok_r(rest, " ", &rest) : NULL;

		words[i] = word ? word : empty;
	}
}

static void load_module(const char *path)
{
	bool optional = path[0] == '-';
	char full[256];
	int fd;

	snprintf(full, sizeof(full), "/%s", path + optional);
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
		if (errno != EEXIST && !optional)
			note(&agent.failed, "module %s: %s", full, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void tell_missing(const char *path)
{
	complain("initramfs: %s is missing or cut off", path);
	note(&agent.missing, "%s", path);
}

/* The sum of a file's 64-bit words, as guest/image.py makes it: cheap, and no word goes unseen. */
static uint64_t sum_of(int fd)
{
	static uint64_t words[8192];
	uint64_t sum = 0;
	ssize_t n;

	while ((n = read(fd, words, sizeof(words))) > 0) {
		memset((char *)words + n, 0, PADDED(n) - (size_t)n);
		for (size_t i = 0; i < PADDED(n) / 8; i++)
			sum += words[i];
	}
	return sum;
}

/*
 * An initramfs too large for the memory is cut off by the kernel without an
 * error. The file it ends in has its full size (do_name() of init/initramfs.c
 * sets it before the bytes come), so the size alone proves nothing.
 */
static void check_file(const char *path, const char *size, const char *sum)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	bool whole = fd >= 0 && fstat(fd, &status) == 0 &&
		     status.st_size == strtoll(size, NULL, 10) &&
		     sum_of(fd) == strtoull(sum, NULL, 16);

	if (fd >= 0)
		close(fd);
	if (!whole)
		tell_missing(path);
}

static void mount_disk(char *words[WORDS])
{
	char device[64];
	int error;

	/* Found when it is asked for, see scratch.c. */
	if (!strcmp(words[4], "later"))
		return;
	error = find_disk(words[1], now_ms() + agent.patience, device, sizeof(device));
	make_folder(words[2], 0755);
	if (!error && mount(device, words[2], words[3], strcmp(words[4], "ro") ? 0 : MS_RDONLY,
			    NULL) < 0)
		error = -errno;
	if (error)
		note(&agent.failed, "disk %s at %s: %s", words[1], words[2], strerror(-error));
	else if (!strcmp(words[1], "modules"))
		agent.features |= WIRE_HAS_MODULES;
}

static void each_directive(void (*obey)(char *words[WORDS]))
{
	static char text[sizeof(directives)];
	char *rest = text, *line, *words[WORDS];

	memcpy(text, directives, sizeof(text));
	while ((line = strtok_r(rest, "\n", &rest))) {
		split(line, words);
		obey(words);
	}
}

static void obey_early(char *words[WORDS])
{
	if (!strcmp(words[0], "module"))
		load_module(words[1]);
	else if (!strcmp(words[0], "file"))
		check_file(words[1], words[2], words[4]);
	else if (!strcmp(words[0], "wait"))
		agent.patience = atoi(words[1]);
}

static void mount_cgroups(const char *version)
{
	int error = cgroup_mount(!strcmp(version, "v1"));

	if (error)
		note(&agent.failed, "cgroup %s: %s", version, strerror(-error));
}

static void obey_late(char *words[WORDS])
{
	if (!strcmp(words[0], "cgroup"))
		mount_cgroups(words[1]);
	else if (!strcmp(words[0], "disk"))
		mount_disk(words);
}

void boot_early(void)
{
	ssize_t length = read_file(DIRECTIVES, directives, sizeof(directives));
	size_t text = length < 0 ? 0 : strlen(directives);

	watch_devices();
	/* Without its last line it was cut off; what is there of it may still get us a channel. */
	if (text < strlen(END) || strcmp(directives + text - strlen(END), END))
		tell_missing(DIRECTIVES);
	each_directive(obey_early);
}

void boot_late(void)
{
	each_directive(obey_late);
}
