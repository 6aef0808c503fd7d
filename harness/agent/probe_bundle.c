/* Deeds beside the containers: the folder of a bundle is made, and removed.
 *
 * A container's root is a copy of SOURCE, made by one process as each one costs
 * in an emulated guest. Its programs are not copied but links to one copy that
 * lies beside the bundles: code on other pages is translated anew by an
 * emulator, each time. Who changed that copy's owner or mode from inside has the
 * next bundle make a new one. */
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 1024, DEPTH = 64 };

static int copy_file(const char *from, const char *to, const struct stat *status)
{
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int file = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int failed = in < 0 || file < 0;

	for (off_t at = 0; !failed && at < status->st_size;)
		failed = sendfile(file, in, &at, (size_t)(status->st_size - at)) <= 0;
	failed = failed || fchmod(file, status->st_mode & 07777) != 0;
	int error = errno;
	if (in >= 0)
		close(in);
	if (file >= 0)
		close(file);
	errno = error;
	return failed ? -1 : 0;
}

static int is_copy(const char *path, const struct stat *status)
{
	struct stat kept;

	return lstat(path, &kept) == 0 && kept.st_mode == status->st_mode && kept.st_uid == geteuid() &&
	       kept.st_gid == getegid() && kept.st_size == status->st_size;
}

/* A link at `to` to the copy of the program that is in the folder `kept`. */
static int link_program(const char *from, const char *to, const char *kept,
			const struct stat *status)
{
	const char *name = strrchr(from, '/') + 1;
	char copy[PATH_SIZE];

	if ((size_t)snprintf(copy, sizeof(copy), "%s/%s", kept, name) >= sizeof(copy)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (!is_copy(copy, status)) {
		if (unlink(copy) != 0 && errno != ENOENT)
			return -1;
		if (copy_file(from, copy, status) != 0)
			return -1;
	}
	return link(copy, to);
}

static int copy_tree(const char *from, const char *to, const char *kept, int depth);

static int copy_entry(const char *from, const char *to, const char *kept, int depth)
{
	char target[PATH_SIZE];
	struct stat status;

	if (lstat(from, &status) != 0)
		return -1;
	if (S_ISDIR(status.st_mode)) {
		if (mkdir(to, 0700) != 0 || copy_tree(from, to, kept, depth + 1) != 0)
			return -1;
		return chmod(to, status.st_mode & 07777);
	}
	if (S_ISLNK(status.st_mode)) {
		ssize_t length = readlink(from, target, sizeof(target) - 1);

		if (length < 0)
			return -1;
		target[length] = '\0';
		return symlink(target, to);
	}
	if (status.st_mode & S_IXUSR)
		return link_program(from, to, kept, &status);
	return copy_file(from, to, &status);
}

static int copy_tree(const char *from, const char *to, const char *kept, int depth)
{
	char source[PATH_SIZE], target[PATH_SIZE];
	DIR *folder = depth < DEPTH ? opendir(from) : NULL;
	struct dirent *entry;
	int failed = !folder;

	while (!failed && (entry = readdir(folder))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		failed = (size_t)snprintf(source, PATH_SIZE, "%s/%s", from, entry->d_name) >=
				 PATH_SIZE ||
			 (size_t)snprintf(target, PATH_SIZE, "%s/%s", to, entry->d_name) >=
				 PATH_SIZE;
		if (failed)
			errno = ENAMETOOLONG;
		else
			failed = copy_entry(source, target, kept, depth) != 0;
	}
	int error = errno;
	if (folder)
		closedir(folder);
	errno = error;
	return failed ? -1 : 0;
}

/* bundle SOURCE FOLDER: make FOLDER with a root like SOURCE, and in it the fifo that `signal`
 * opens. The programs' copies are beside FOLDER. What fails ends the probe with status 1. */
void do_bundle(int argc, char **argv)
{
	char kept[PATH_SIZE], path[PATH_SIZE];
	char *last = strrchr(argv[2], '/');

	(void)argc;
	umask(0);
	snprintf(kept, sizeof(kept), "%.*s", last ? (int)(last - argv[2]) : 0, argv[2]);
	snprintf(path, sizeof(path), "%.900s/rootfs", argv[2]);
	if ((mkdir(kept, 0755) != 0 && errno != EEXIST) || mkdir(argv[2], 0755) != 0 ||
	    mkdir(path, 0755) != 0 || copy_tree(argv[1], path, kept, 0) != 0 ||
	    mkfifo(strcat(path, "/ready"), 0644) != 0) {
		perror("bundle");
		exit(1);
	}
}

static void remove_tree(int parent, const char *name, int depth)
{
	struct dirent *entry;
	DIR *folder = NULL;
	int fd;

	if (unlinkat(parent, name, 0) == 0 || depth == DEPTH)
		return;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		folder = fdopendir(fd);
	while (folder && (entry = readdir(folder)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			remove_tree(fd, entry->d_name, depth + 1);
	if (folder)
		closedir(folder);
	if (unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
		out.error = errno;
}

/* discard FOLDER PATTERN...: remove the folder, and the control groups that the patterns
 * (glob(3)) name unless they are in use. */
void do_discard(int argc, char **argv)
{
	glob_t found;

	remove_tree(AT_FDCWD, argv[1], 0);
	for (int word = 2; word < argc; word++) {
		if (glob(argv[word], GLOB_NOSORT, NULL, &found) != 0)
			continue;
		for (size_t i = 0; i < found.gl_pathc; i++)
			rmdir(found.gl_pathv[i]);
		globfree(&found);
	}
}
