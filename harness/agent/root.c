/*
 * A tree of files as this process's root, with the machine's own /proc, /sys,
 * /dev, /run, /tmp and /work in it.
 *
 * The tree may be read-only and need not have those folders, so a small tmpfs
 * becomes the root and the tree's entries are bound into it. pivot_root(2)
 * and not chroot(2): a chrooted process may not make user namespaces.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

/* Not below a folder that is shared, or it would be bound into itself. */
#define NEW_ROOT "/scratch/root"

static const char *const shared[] = { "proc", "sys", "dev", "run", "tmp", "work" };
#define SHARED (sizeof(shared) / sizeof(shared[0]))

static bool is_shared(const char *name)
{
	for (size_t i = 0; i < SHARED; i++)
		if (!strcmp(shared[i], name))
			return true;
	return false;
}

static int bind(const char *from, const char *to)
{
	return mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

static int place_entry(const char *tree, const char *name)
{
	char from[512], to[512], target[512];
	struct stat status;
	ssize_t length;
	int fd;

	snprintf(from, sizeof(from), "%s/%s", tree, name);
	snprintf(to, sizeof(to), NEW_ROOT "/%s", name);
	if (lstat(from, &status) < 0)
		return -errno;
	if (S_ISLNK(status.st_mode)) {
		length = readlink(from, target, sizeof(target) - 1);
		if (length < 0)
			return -errno;
		target[length] = '\0';
		return symlink(target, to) < 0 ? -errno : 0;
	}
	if (S_ISDIR(status.st_mode)) {
		if (mkdir(to, 0755) < 0)
			return -errno;
	} else {
		fd = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
		if (fd < 0)
			return -errno;
		close(fd);
	}
	return bind(from, to);
}

static int place_entries(const char *tree)
{
	DIR *dir = opendir(tree);
	struct dirent *entry;
	int error = 0;

	if (!dir)
		return -errno;
	while (!error && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
		    strcmp(entry->d_name, "lost+found") && !is_shared(entry->d_name))
			error = place_entry(tree, entry->d_name);
	closedir(dir);
	return error;
}

int root_enter(const char *tree)
{
	int error;

	if (unshare(CLONE_NEWNS) < 0)
		return -errno;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	error = mount_at("tmpfs", NEW_ROOT, 0, "mode=755");
	if (error)
		return error;
	error = place_entries(tree);
	for (size_t i = 0; i < SHARED && !error; i++) {
		char from[64], to[64];

		snprintf(from, sizeof(from), "/%s", shared[i]);
		snprintf(to, sizeof(to), NEW_ROOT "/%s", shared[i]);
		if (access(from, F_OK) < 0)
			continue;
		mkdir(to, 0755);
		error = bind(from, to);
	}
	if (!error)
		error = seal_place(tree, NEW_ROOT);
	if (error)
		return error;
	/* pivot_root(2), "pivot_root(".", ".")": the old root is under the new one, then gone. */
	if (chdir(NEW_ROOT) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}
