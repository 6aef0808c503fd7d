/*
 * Programs of a tree that are run from a sealed copy in memory.
 *
 * A runtime that lies in a file which others might write to copies itself into memory each
 * time that it starts a container (CVE-2019-5736). An emulator has to translate each copy anew,
 * which is most of what a container costs there. A memory file that is sealed (fcntl(2),
 * F_ADD_SEALS) is taken as it is. So one copy is kept for each tree that names a program in its
 * file .sealed, and is found by the program's name in the root: a link to /proc/PID/fd/N, as
 * such a file cannot be mounted, nor from 6.12 on the link itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

#define TREES 32
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* linux/memfd.h since 6.3; without it newer kernels complain */
#endif

static struct copy {
	char tree[128];
	char program[128];	/* its path in the tree; empty when the tree names none */
	int fd;
	pid_t owner;
} copies[TREES];
static size_t count;

static int fill(int from, int to)
{
	struct stat status;

	if (fstat(from, &status) < 0)
		return -errno;
	for (off_t at = 0; at < status.st_size;) {
		ssize_t sent = sendfile(to, from, &at, (size_t)(status.st_size - at));

		if (sent <= 0)
			return sent < 0 ? -errno : -EIO;
	}
	return fcntl(to, F_ADD_SEALS, SEALS) < 0 ? -errno : 0;
}

static int copy_sealed(const char *tree, const char *program)
{
	char path[272];
	int from, to, error;

	snprintf(path, sizeof(path), "%s/%s", tree, program);
	from = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return -errno;
	to = memfd_create(program, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (to < 0 && errno == EINVAL)
		to = memfd_create(program, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	error = to < 0 ? -errno : fill(from, to);
	close(from);
	if (error && to >= 0)
		close(to);
	return error ? error : to;
}

static struct copy *find(const char *tree)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(copies[i].tree, tree))
			return &copies[i];
	return NULL;
}

int seal_tree(const char *tree)
{
	struct copy made = { .fd = -1, .owner = getpid() };
	char path[272];

	if (find(tree) || count == TREES || strlen(tree) >= sizeof(made.tree))
		return 0;
	snprintf(made.tree, sizeof(made.tree), "%s", tree);
	snprintf(path, sizeof(path), "%s/.sealed", tree);
	if (read_file(path, made.program, sizeof(made.program)) <= 0)
		made.program[0] = '\0';
	made.program[strcspn(made.program, "\n")] = '\0';
	if (made.program[0]) {
		made.fd = copy_sealed(tree, made.program);
		if (made.fd < 0)
			return made.fd;
	}
	copies[count++] = made;
	return 0;
}

int seal_place(const char *tree, const char *root)
{
	const struct copy *copy = find(tree);
	const char *name;
	char target[64], path[272];

	if (!copy || !copy->program[0])
		return 0;
	name = strrchr(copy->program, '/');
	snprintf(target, sizeof(target), "/proc/%d/fd/%d", copy->owner, copy->fd);
	snprintf(path, sizeof(path), "%s/%s", root, name ? name + 1 : copy->program);
	return symlink(target, path) < 0 ? -errno : 0;
}
