/* The control groups, mounted as /hostabi/boot says. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

#define TOP "/sys/fs/cgroup"

/* cgroups(7): a controller reaches the children only through subtree_control. */
static int mount_v2(void)
{
	char names[1024], word[128];
	int error = mount_at("cgroup2", TOP, MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);

	if (error)
		return error;
	agent.features |= WIRE_HAS_CGROUP2;
	if (read_file(TOP "/cgroup.controllers", names, sizeof(names)) < 0)
		return 0;
	/* One by one: a controller that cannot be enabled does not stop the others. */
	for (char *name = strtok(names, " \n"); name; name = strtok(NULL, " \n")) {
		snprintf(word, sizeof(word), "+%s", name);
		error = write_file(TOP "/cgroup.subtree_control", word);
		if (error)
			say("cgroup controller %s: %s", name, strerror(-error));
	}
	return 0;
}

/* The hierarchies that systemd mounts together, so that paths are as on real hosts. */
static const char *partner(const char *name)
{
	if (!strcmp(name, "cpu"))
		return "cpu,cpuacct";
	if (!strcmp(name, "net_cls"))
		return "net_cls,net_prio";
	if (!strcmp(name, "cpuacct") || !strcmp(name, "net_prio"))
		return NULL;
	return name;
}

static int mount_hierarchy(const char *name, const char *options)
{
	char path[128];

	snprintf(path, sizeof(path), TOP "/%s", name);
	mkdir(path, 0755);
	if (mount("cgroup", path, "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) == 0)
		return 0;
	rmdir(path);
	return -errno;
}

static void mount_controller(const char *name)
{
	const char *options = partner(name);
	char link[128];

	if (!options)
		return;
	if (mount_hierarchy(options, options) < 0) {
		/* One of the pair may be missing from this kernel. */
		if (!strchr(options, ',') || mount_hierarchy(name, name) < 0)
			say("cgroup v1 controller %s cannot be mounted", name);
		return;
	}
	for (const char *at = options; strchr(options, ',') && at;
	     at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
		snprintf(link, sizeof(link), TOP "/%.*s", (int)strcspn(at, ","), at);
		if (symlink(options, link) < 0)
			say("%s: no link", link);
	}
}

static int mount_v1(void)
{
	char text[2048], name[64];
	int enabled, error = mount_at("tmpfs", TOP, MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755");
	ssize_t length = error ? error : read_file("/proc/cgroups", text, sizeof(text));

	if (length < 0)
		return (int)length;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (sscanf(line, "%63s %*d %*d %d", name, &enabled) == 2 && enabled)
			mount_controller(name);
	mount_hierarchy("systemd", "none,name=systemd");
	agent.features |= WIRE_HAS_CGROUP1;
	return 0;
}

int cgroup_mount(bool v1)
{
	return v1 ? mount_v1() : mount_v2();
}
