/*
 * A tree's entries in the order of their names, with what stat tells and the
 * start of each regular file. Runs in a child, because files of the kernel
 * may block or may look different from inside a sandbox.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

#define DEPTH 64
/* How long one file may keep a read waiting, in milliseconds. */
#define FILE_MS 100

struct stroll {
	const struct wire_walk *ask;
	struct wire_walked *head;	/* on the board; entries follow it */
	size_t used;
	dev_t device;
	char path[PATH_MAX];
};

static void *room(struct stroll *stroll, size_t size)
{
	uint8_t *at = board->room + stroll->used;

	if (size > WIRE_LIMIT - stroll->used) {
		stroll->head->truncated = 1;
		return NULL;
	}
	stroll->used += size;
	return at;
}

static uint32_t letter(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return 'f';
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	case S_IFIFO:
		return 'p';
	default:
		return 's';
	}
}

/* Never opens anything but regular files: to open a device may do something. */
static void add_content(struct stroll *stroll, struct wire_entry *entry, int folder,
			const char *name)
{
	uint8_t *into = board->room + stroll->used;
	size_t limit = stroll->ask->contents;
	ssize_t got;
	int fd;

	fd = openat(folder, name, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
	entry->writable = fd >= 0;
	if (fd >= 0)
		close(fd);
	fd = openat(folder, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
	if (fd < 0) {
		entry->error = errno;
		return;
	}
	if (limit > WIRE_LIMIT - stroll->used) {
		stroll->head->truncated = 1;
		limit = WIRE_LIMIT - stroll->used;
	}
	patience(FILE_MS);
	got = read_bounded(fd, into, limit);
	patience(0);
	close(fd);
	if (got < 0) {
		entry->error = (int)-got;
		return;
	}
	entry->content = (int32_t)got;
	stroll->used += (size_t)got;
}

static void add_target(struct stroll *stroll, struct wire_entry *entry, int folder,
		       const char *name)
{
	char target[PATH_MAX];
	ssize_t length = readlinkat(folder, name, target, sizeof(target));
	uint8_t *into;

	if (length < 0) {
		entry->error = errno;
		return;
	}
	into = room(stroll, (size_t)length);
	if (!into)
		return;
	memcpy(into, target, (size_t)length);
	entry->target = (uint32_t)length;
}

/* NULL: the walk is over, a limit is reached. */
static struct wire_entry *add(struct stroll *stroll, int folder, const char *name,
			      struct stat *status)
{
	size_t length = strlen(stroll->path);
	struct wire_entry *entry;
	uint8_t *into;

	if (stroll->head->entries >= stroll->ask->entries) {
		stroll->head->truncated = 1;
		return NULL;
	}
	entry = room(stroll, sizeof(*entry));
	into = entry ? room(stroll, length) : NULL;
	if (!into)
		return NULL;
	memset(entry, 0, sizeof(*entry));
	memcpy(into, stroll->path, length);
	entry->path = (uint32_t)length;
	entry->writable = -1;
	entry->content = -1;
	entry->kind = '?';
	memset(status, 0, sizeof(*status));
	if (fstatat(folder, name, status, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0) {
		entry->error = errno;
	} else {
		entry->kind = letter(status->st_mode);
		entry->mode = status->st_mode & 07777;
		entry->uid = status->st_uid;
		entry->gid = status->st_gid;
		entry->size = (uint64_t)status->st_size;
		entry->rdev = status->st_rdev;
		if (S_ISLNK(status->st_mode))
			add_target(stroll, entry, folder, name);
		else if (S_ISREG(status->st_mode) && stroll->ask->contents)
			add_content(stroll, entry, folder, name);
	}
	if (!room(stroll, PADDED(stroll->used) - stroll->used))
		return NULL;
	stroll->head->entries++;
	return stroll->head->truncated ? NULL : entry;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/*
 * The names in a folder, sorted; the caller frees. error is why there may be
 * more: ENOMEM, or what reading the folder gave.
 */
static size_t names_of(DIR *dir, char ***names, int *error)
{
	size_t count = 0, space = 0;
	struct dirent *entry;

	*names = NULL;
	*error = ENOMEM;
	while (errno = 0, (entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (count == space) {
			char **grown = realloc(*names, (space = space * 2 + 64) * sizeof(*grown));

			if (!grown)
				goto full;
			*names = grown;
		}
		(*names)[count] = strdup(entry->d_name);
		if (!(*names)[count])
			goto full;
		count++;
	}
	*error = errno;
full:
	if (count)
		qsort(*names, count, sizeof(**names), by_name);
	return count;
}

static bool descend(struct stroll *stroll, int folder, const char *name, int depth,
		    struct wire_entry *own);

static bool enters(const struct stroll *stroll, const struct stat *status, int depth)
{
	const struct wire_walk *ask = stroll->ask;

	return S_ISDIR(status->st_mode) && (!ask->depth || (uint32_t)depth < ask->depth) &&
	       (status->st_dev == stroll->device || ask->flags & WIRE_FOLLOW_MOUNTS);
}

static bool skips(const struct stroll *stroll, const char *name)
{
	return stroll->ask->flags & WIRE_SKIP_NUMBERS && !name[strspn(name, "0123456789")];
}

static bool visit(struct stroll *stroll, int folder, const char *name, int depth)
{
	size_t length = strlen(stroll->path);
	struct wire_entry *entry;
	struct stat status;
	bool on;

	if (skips(stroll, name))
		return true;
	if (length + strlen(name) + 2 > sizeof(stroll->path)) {
		stroll->head->truncated = 1;
		return true;
	}
	if (length && stroll->path[length - 1] != '/')
		strcat(stroll->path, "/");
	strcat(stroll->path, name);
	entry = add(stroll, folder, name, &status);
	on = entry;
	if (on && enters(stroll, &status, depth + 1))
		on = descend(stroll, folder, name, depth + 1, entry);
	stroll->path[length] = '\0';
	return on;
}

/* own is the folder's entry, which is told why it cannot be read. */
static bool descend(struct stroll *stroll, int folder, const char *name, int depth,
		    struct wire_entry *own)
{
	bool deep = depth > DEPTH, on = true;
	int fd = deep ? -1 : openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char **names;
	size_t count;

	if (!dir) {
		stroll->head->truncated |= deep;
		own->error = deep ? 0 : errno;
		if (fd >= 0)
			close(fd);
		return true;
	}
	count = names_of(dir, &names, &own->error);
	stroll->head->truncated |= own->error == ENOMEM;
	for (size_t i = 0; i < count; i++) {
		on = on && visit(stroll, dirfd(dir), names[i], depth);
		free(names[i]);
	}
	free(names);
	closedir(dir);
	return on;
}

static _Noreturn void walk_tree(const struct wire_walk *ask, const char *path)
{
	struct stroll stroll = { .ask = ask };
	struct wire_entry *entry;
	struct stat status;

	forget_patience();
	stroll.head = room(&stroll, sizeof(*stroll.head));
	if (lstat(path, &status) < 0) {
		board->refused = errno;
		memcpy(board->step, "walk", 5);
		_exit(0);
	}
	stroll.device = status.st_dev;
	strncpy(stroll.path, path, sizeof(stroll.path) - 1);
	entry = add(&stroll, AT_FDCWD, path, &status);
	if (entry && S_ISDIR(status.st_mode))
		descend(&stroll, AT_FDCWD, path, 0, entry);
	/* Written last: a child that did not come this far has answered nothing. */
	*(volatile uint32_t *)&board->done = (uint32_t)stroll.used;
	_exit(0);
}

int walk(struct cursor *cursor, struct answer *answer)
{
	const struct wire_walk *ask = take(cursor, sizeof(*ask));
	const void *filter = ask ? take_padded(cursor, ask->sandbox.filter) : NULL;
	const char *path = filter ? take_string(cursor, ask->path) : NULL;
	struct wire_sandbox box;
	struct wire_ran ran = { 0 };
	pid_t pid;

	if (!path)
		return answer_error(answer, -EBADMSG, "walk request");
	box = ask->sandbox;
	family_keep();
	board_clear();
	memset(board->room, 0, sizeof(struct wire_walked));
	pid = sandbox_fork(&box, filter);
	if (pid == 0)
		walk_tree(ask, path);
	sandbox_end(&box, pid, &ran);
	scratch_drop(box.scratch);
	if (ran.end == WIRE_REFUSED)
		return answer_error(answer, -ran.code, ran.step);
	if (ran.end == WIRE_TIMED_OUT)
		return answer_error(answer, -ETIMEDOUT, "walk");
	if (ran.end == WIRE_SIGNALLED || board->done < sizeof(struct wire_walked))
		return answer_error(answer, -EIO, "walk");
	if (answer_bytes(answer, board->room, board->done))
		return answer_error(answer, -E2BIG, "walk");
	return 0;
}
