/*
 * The fresh empty folder each program starts in, always at the same path.
 *
 * The cheap way is mkdir and rmdir. Only what a program leaves behind costs
 * more, up to a new file system when something in it cannot be removed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

/* One descriptor for each level is open while a tree is removed. */
#define DEPTH 100
#define ROUNDS 1024

struct place {
	const char *base;	/* the mount point */
	char folder[128];	/* the program's folder in it */
	bool mounted;
};

static struct place places[] = {
	[WIRE_SCRATCH_TMPFS] = { .base = "/scratch/tmpfs" },
	[WIRE_SCRATCH_EXT4] = { .base = "/scratch/ext4" },
	[WIRE_SCRATCH_OVERLAY] = { .base = "/scratch/overlay" },
};
#define PLACES (sizeof(places) / sizeof(places[0]))
#define LAYERS "/scratch/layers"

static int mount_ext4(const char *base)
{
	char device[64];
	int error = find_disk("scratch", now_ms() + agent.patience, device, sizeof(device));

	if (error)
		return error;
	make_folder(base, 0755);
	return mount(device, base, "ext4", 0, NULL) < 0 ? -errno : 0;
}

/* Upper and work lie on a tmpfs of their own, so that they can be thrown away whole. */
static int mount_overlay(const char *base)
{
	int error = mount_at("tmpfs", LAYERS, 0, "mode=755");

	if (error)
		return error;
	make_folder(LAYERS "/lower", 0755);
	make_folder(LAYERS "/upper", 0755);
	make_folder(LAYERS "/work", 0755);
	error = mount_at("overlay", base, 0,
			 "lowerdir=" LAYERS "/lower,upperdir=" LAYERS "/upper,workdir=" LAYERS "/work");
	if (error)
		umount2(LAYERS, MNT_DETACH);
	return error;
}

static int place_mount(uint32_t kind)
{
	struct place *place = &places[kind];
	int error;

	if (place->mounted)
		return 0;
	if (agent.pid1 && kind == WIRE_SCRATCH_TMPFS)
		error = mount_at("tmpfs", place->base, 0, "mode=755");
	else if (agent.pid1)
		error = kind == WIRE_SCRATCH_EXT4 ? mount_ext4(place->base) : mount_overlay(place->base);
	else
		/* Beside others only the private folder is at hand. */
		error = kind == WIRE_SCRATCH_TMPFS ? 0 : -ENODEV;
	if (error)
		return error;
	if (!agent.pid1)
		place->base = agent.scratch;
	snprintf(place->folder, sizeof(place->folder), "%s/cwd", place->base);
	place->mounted = true;
	return 0;
}

static void place_unmount(uint32_t kind)
{
	struct place *place = &places[kind];

	if (!agent.pid1 || !place->mounted)
		return;
	umount2(place->base, MNT_DETACH);
	if (kind == WIRE_SCRATCH_OVERLAY)
		umount2(LAYERS, MNT_DETACH);
	place->mounted = false;
}

int scratch_make(uint32_t kind, uid_t uid, gid_t gid, const char **path)
{
	int error;

	if (kind >= PLACES)
		return -EINVAL;
	error = place_mount(kind);
	if (error)
		return error;
	*path = places[kind].folder;
	/* Which the program before may have closed to everybody. */
	chmod(places[kind].base, 0755);
	if (mkdir(*path, 0755) < 0) {
		if (errno != EEXIST)
			return -errno;
		scratch_drop(kind);
		error = place_mount(kind);
		if (error)
			return error;
		if (mkdir(*path, 0755) < 0)
			return -errno;
	}
	if ((uid || gid) && geteuid() == 0 && chown(*path, uid, gid) < 0)
		return -errno;
	return 0;
}

static void unlock(int folder, const char *name)
{
	int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int flags = 0;

	if (fd < 0)
		return;
	/* FS_IOC_SETFLAGS, ioctl_iflags(2): immutable and append-only files resist unlink. */
	ioctl(fd, FS_IOC_SETFLAGS, &flags);
	close(fd);
}

static int remove_inside(int folder, int top, int depth, unsigned *moved);

static int remove_entry(int folder, const char *name, int top, int depth, unsigned *moved)
{
	char aside[32];
	int child, error;

	if (unlinkat(folder, name, 0) == 0)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (unlinkat(folder, name, AT_REMOVEDIR) == 0)
		return 0;
	/* A mount point: what is mounted there may be the machine's own, and is not ours to remove. */
	if (errno == EBUSY)
		return -EBUSY;
	if (errno == EPERM)
		unlock(folder, name);
	if (depth >= DEPTH) {
		/* Too deep for descriptors: the next round starts with it at the top. */
		do
			snprintf(aside, sizeof(aside), ".aside-%u", (*moved)++);
		while ((error = renameat(folder, name, top, aside)) < 0 &&
		       (errno == ENOTEMPTY || errno == EEXIST));
		return error < 0 ? -errno : 0;
	}
	fchmodat(folder, name, 0700, 0);
	child = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (child < 0)
		return unlinkat(folder, name, 0) < 0 ? -errno : 0;
	error = remove_inside(child, top, depth + 1, moved);
	if (error)
		return error;
	return unlinkat(folder, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* Closes folder. */
static int remove_inside(int folder, int top, int depth, unsigned *moved)
{
	DIR *dir = fdopendir(folder);
	struct dirent *entry;
	int error = 0;

	if (!dir) {
		close(folder);
		return -ENOMEM;
	}
	while (!error && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			error = remove_entry(folder, entry->d_name, top, depth, moved);
	closedir(dir);
	return error;
}

int remove_tree(const char *path)
{
	unsigned moved = 0;

	for (int round = 0; round < ROUNDS; round++) {
		int top, error;

		if (rmdir(path) == 0 || errno == ENOENT)
			return 0;
		if (errno == EBUSY)
			return -EBUSY;
		chmod(path, 0700);
		top = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (top < 0)
			return errno == ENOENT ? 0 : -errno;
		error = remove_inside(dup(top), top, 0, &moved);
		close(top);
		if (error)
			return error;
	}
	return -ENOTEMPTY;
}

/* Only ext4 keeps what it holds when it is unmounted: clear it, or put it out of the way. */
static void clear_disk(struct place *place)
{
	static unsigned stuck;
	char aside[160];

	if (place_mount(WIRE_SCRATCH_EXT4) < 0 || remove_tree(place->folder) == 0)
		return;
	snprintf(aside, sizeof(aside), "%s/stuck-%u", place->base, stuck++);
	if (rename(place->folder, aside) < 0)
		say("%s stays in the way: %s", place->folder, strerror(errno));
}

const char *scratch_folder(uint32_t kind)
{
	return kind < PLACES ? places[kind].folder : "";
}

void scratch_drop(uint32_t kind)
{
	struct place *place;
	int error;

	if (kind >= PLACES || !places[kind].mounted)
		return;
	place = &places[kind];
	if (rmdir(place->folder) == 0 || errno == ENOENT)
		return;
	error = remove_tree(place->folder);
	if (!error)
		return;
	/* Most likely mounts, of a program without a mount namespace of its own. */
	say("%s is not empty after a program: %s", place->folder, strerror(-error));
	place_unmount(kind);
	if (kind == WIRE_SCRATCH_EXT4)
		clear_disk(place);
}

void scratch_reset(void)
{
	for (uint32_t kind = 0; kind < PLACES; kind++)
		scratch_drop(kind);
}
