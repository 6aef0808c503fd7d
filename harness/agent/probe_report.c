/* The report: what this process sees, from system calls where one answers and
 * from /proc where none does. A container may have no /proc; what depends on
 * it is then empty or missing, and the rest still stands. */
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { DEVICE_DEPTH = 2, DEVICE_LIMIT = 512, FILE_LIMIT = 16384 };

static void text_of_file(const char *key, const char *path)
{
	static char content[FILE_LIMIT];
	long length = read_file(path, content, sizeof(content));

	if (length >= 0)
		json_bytes(key, content, (size_t)length);
}

static void text_of_link(const char *key, const char *path)
{
	char target[4096];
	ssize_t length = readlink(path, target, sizeof(target));

	if (length >= 0)
		json_bytes(key, target, (size_t)length);
}

static void namespaces(void)
{
	static const char *const names[] = { "cgroup", "ipc", "mnt", "net",
					     "pid", "time", "user", "uts" };

	json_open("namespaces", '{');
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
		text_of_link(names[i], path);
	}
	json_close('}');
}

/* One line of proc_pid_mountinfo(5): six fixed fields, optional fields up to a
 * lone "-", then type, source and the super block's options. */
static void mount_line(char *line)
{
	static const char *const fixed[] = { "id", "parent", "device", "root", "target",
					     "options" };
	static const char *const last[] = { "type", "source", "super" };
	char *rest = line;
	char *field;

	json_open(NULL, '{');
	for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed) && (field = strsep(&rest, " ")); i++) {
		if (i < 2)
			json_number(fixed[i], atoll(field));
		else
			json_text(fixed[i], field);
	}
	json_open("propagation", '[');
	while ((field = strsep(&rest, " ")) && strcmp(field, "-") != 0)
		json_text(NULL, field);
	json_close(']');
	for (size_t i = 0; i < sizeof(last) / sizeof(*last) && (field = strsep(&rest, " ")); i++)
		json_text(last[i], field);
	json_close('}');
}

static void mounts(void)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t length;

	json_open("mounts", '[');
	while (file && (length = getline(&line, &size, file)) > 0) {
		line[strcspn(line, "\n")] = '\0';
		mount_line(line);
	}
	json_close(']');
	free(line);
	if (file)
		fclose(file);
}

static void identity(void)
{
	uid_t uid[3];
	gid_t gid[3];
	gid_t groups[256];
	int count = getgroups(256, groups);

	getresuid(&uid[0], &uid[1], &uid[2]);
	getresgid(&gid[0], &gid[1], &gid[2]);
	json_open("uid", '[');
	for (int i = 0; i < 3; i++)
		json_number(NULL, uid[i]);
	json_close(']');
	json_open("gid", '[');
	for (int i = 0; i < 3; i++)
		json_number(NULL, gid[i]);
	json_close(']');
	json_open("groups", '[');
	for (int i = 0; i < count; i++)
		json_number(NULL, groups[i]);
	json_close(']');
	text_of_file("uid_map", "/proc/self/uid_map");
	text_of_file("gid_map", "/proc/self/gid_map");
	text_of_file("setgroups", "/proc/self/setgroups");
}

static void capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };
	unsigned long long bounding = 0;
	unsigned long long ambient = 0;

	/* musl declares no capget. */
	syscall(SYS_capget, &header, data);
	for (int i = 0; i < 64; i++) {
		if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
			bounding |= 1ULL << i;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1)
			ambient |= 1ULL << i;
	}
	json_open("capabilities", '{');
	json_unsigned("effective", data[0].effective | (unsigned long long)data[1].effective << 32);
	json_unsigned("permitted", data[0].permitted | (unsigned long long)data[1].permitted << 32);
	json_unsigned("inheritable",
		      data[0].inheritable | (unsigned long long)data[1].inheritable << 32);
	json_unsigned("bounding", bounding);
	json_unsigned("ambient", ambient);
	json_close('}');
}

static void rlimits(void)
{
	static const struct {
		const char *name;
		int number;
	} all[] = {
		{ "RLIMIT_AS", RLIMIT_AS },
		{ "RLIMIT_CORE", RLIMIT_CORE },
		{ "RLIMIT_CPU", RLIMIT_CPU },
		{ "RLIMIT_DATA", RLIMIT_DATA },
		{ "RLIMIT_FSIZE", RLIMIT_FSIZE },
		{ "RLIMIT_LOCKS", RLIMIT_LOCKS },
		{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
		{ "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
		{ "RLIMIT_NICE", RLIMIT_NICE },
		{ "RLIMIT_NOFILE", RLIMIT_NOFILE },
		{ "RLIMIT_NPROC", RLIMIT_NPROC },
		{ "RLIMIT_RSS", RLIMIT_RSS },
		{ "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
		{ "RLIMIT_RTTIME", RLIMIT_RTTIME },
		{ "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
		{ "RLIMIT_STACK", RLIMIT_STACK },
	};

	json_open("rlimits", '{');
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		struct rlimit limit;

		if (getrlimit(all[i].number, &limit) != 0)
			continue;
		json_open(all[i].name, '[');
		json_unsigned(NULL, limit.rlim_cur);
		json_unsigned(NULL, limit.rlim_max);
		json_close(']');
	}
	json_close('}');
}

static const char *device_type(mode_t mode)
{
	if (S_ISCHR(mode))
		return "c";
	if (S_ISBLK(mode))
		return "b";
	if (S_ISFIFO(mode))
		return "p";
	if (S_ISLNK(mode))
		return "l";
	return NULL;
}

/* Devices, pipes and links below a folder of /dev; the count so far. */
static int devices_below(const char *folder, int depth, int count)
{
	struct dirent **entries = NULL;
	int found = scandir(folder, &entries, NULL, alphasort);

	for (int i = 0; i < found; i++) {
		char path[4096];
		struct stat status;
		const char *name = entries[i]->d_name;

		snprintf(path, sizeof(path), "%s/%s", folder, name);
		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && count < DEVICE_LIMIT &&
		    lstat(path, &status) == 0) {
			if (S_ISDIR(status.st_mode) && depth < DEVICE_DEPTH)
				count = devices_below(path, depth + 1, count);
			if (device_type(status.st_mode)) {
				count++;
				json_open(NULL, '{');
				json_text("path", path);
				json_text("type", device_type(status.st_mode));
				json_number("major", major(status.st_rdev));
				json_number("minor", minor(status.st_rdev));
				json_number("mode", status.st_mode & 07777);
				json_number("uid", status.st_uid);
				json_number("gid", status.st_gid);
				if (S_ISLNK(status.st_mode))
					text_of_link("target", path);
				json_close('}');
			}
		}
		free(entries[i]);
	}
	free(entries);
	return count;
}

static void descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;

	json_open("descriptors", '[');
	while (folder && (entry = readdir(folder))) {
		char path[64];
		int number = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || number == dirfd(folder))
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", number);
		json_open(NULL, '{');
		json_number("number", number);
		text_of_link("target", path);
		json_close('}');
	}
	json_close(']');
	if (folder)
		closedir(folder);
}

static void cgroup(void)
{
	static const char *const files[] = {
		"cgroup.controllers", "cgroup.events",	"cgroup.subtree_control",
		"cgroup.type",	      "cpu.idle",	"cpu.max",
		"cpu.max.burst",      "cpu.weight",	"cpuset.cpus",
		"cpuset.mems",	      "hugetlb.2MB.max", "io.max",
		"io.weight",	      "memory.events",	"memory.high",
		"memory.low",	      "memory.max",	"memory.min",
		"memory.oom.group",   "memory.swap.max", "pids.current",
		"pids.events",	      "pids.max",	"rdma.max",
	};

	text_of_file("cgroup", "/proc/self/cgroup");
	json_open("cgroup_files", '{');
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char path[128];

		snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", files[i]);
		text_of_file(files[i], path);
	}
	json_close('}');
}

static void process(void)
{
	mode_t mask = umask(0);
	char folder[4096];
	struct timespec boot = { 0 };
	cpu_set_t cpus;

	umask(mask);
	json_number("umask", mask);
	if (getcwd(folder, sizeof(folder)))
		json_text("cwd", folder);
	json_number("pid", getpid());
	json_number("ppid", getppid());
	json_number("process_group", getpgrp());
	json_number("session", getsid(0));
	json_bool("terminal", isatty(0));
	json_bool("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	json_number("personality", personality(0xffffffff));
	json_number("nice", getpriority(PRIO_PROCESS, 0));
	json_number("scheduler", syscall(SYS_sched_getscheduler, 0));
	json_number("io_priority", syscall(SYS_ioprio_get, 1, 0));
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0) {
		json_open("cpus", '[');
		for (int i = 0; i < CPU_SETSIZE; i++)
			if (CPU_ISSET(i, &cpus))
				json_number(NULL, i);
		json_close(']');
	}
	clock_gettime(CLOCK_BOOTTIME, &boot);
	json_number("boot_seconds", boot.tv_sec);
}

void report(int argc, char **argv)
{
	struct utsname system = { 0 };

	json_line_begin();
	json_text("action", "report");
	uname(&system);
	json_text("hostname", system.nodename);
	json_text("domainname", system.domainname);
	json_text("release", system.release);
	json_text("machine", system.machine);
	json_open("arguments", '[');
	for (int i = 0; i < argc; i++)
		json_text(NULL, argv[i]);
	json_close(']');
	json_open("environment", '[');
	for (char **entry = environ; *entry; entry++)
		json_text(NULL, *entry);
	json_close(']');
	process();
	identity();
	capabilities();
	rlimits();
	namespaces();
	descriptors();
	text_of_file("oom_score_adj", "/proc/self/oom_score_adj");
	text_of_file("status", "/proc/self/status");
	text_of_file("label", "/proc/self/attr/current");
	text_of_file("timens_offsets", "/proc/self/timens_offsets");
	cgroup();
	mounts();
	json_open("devices", '[');
	devices_below("/dev", 0, 0);
	json_close(']');
	json_line_end();
}
