/*
 * What a program leaves in its scratch folder, a line for each thing, told by
 * the agent once the program is gone: it may look into what the program could
 * not. Times, inodes and sizes of folders are a file system's own affair and
 * are left out.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent.h"

#define ENTRIES 256
#define DEPTH 16
/* Bytes of a file that count towards its sum. */
#define CONTENT 65536
#define XATTRS 4096

struct survey {
	struct report *report;
	char path[PATH_MAX];
	size_t base;		/* bytes of path that are the folder's own */
	dev_t device;
	unsigned entries;
};

/* FNV-1a over words, as a byte at a time is slow in an emulated machine. */
static uint64_t sum_of(const uint8_t *bytes, size_t size)
{
	uint64_t sum = 0xcbf29ce484222325, word;

	for (size_t i = 0; i < size; i += sizeof(word)) {
		word = 0;
		memcpy(&word, bytes + i, size - i < sizeof(word) ? size - i : sizeof(word));
		sum = (sum ^ word) * 0x100000001b3;
	}
	return sum;
}

static void tell_content(struct survey *survey)
{
	static uint8_t content[CONTENT];
	int fd = open(survey->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return;
	got = pread(fd, content, sizeof(content), 0);
	close(fd);
	report_text(survey->report, " sum=");
	report_bits(survey->report, got < 0 ? 0 : sum_of(content, (size_t)got), 16);
}

static int by_name(const void *one, const void *other)
{
	return strcmp(*(char *const *)one, *(char *const *)other);
}

static void tell_xattrs(struct survey *survey)
{
	static char names[XATTRS], value[XATTRS];
	ssize_t size = llistxattr(survey->path, names, sizeof(names));
	char *sorted[64];
	size_t count = 0;

	for (ssize_t i = 0; i < size && count < 64; i += (ssize_t)strlen(names + i) + 1)
		sorted[count++] = names + i;
	qsort(sorted, count, sizeof(sorted[0]), by_name);
	for (size_t i = 0; i < count; i++) {
		ssize_t got = lgetxattr(survey->path, sorted[i], value, sizeof(value));

		report_char(survey->report, ' ');
		report_bytes(survey->report, sorted[i], strlen(sorted[i]));
		report_char(survey->report, '=');
		if (got < 0)
			report_number(survey->report, -errno);
		else
			report_bytes(survey->report, value, (size_t)got);
	}
}

static void survey_folder(struct survey *survey, int depth);

static void tell_entry(struct survey *survey, int depth)
{
	struct report *report = survey->report;
	char target[PATH_MAX];
	struct stat status;

	if (lstat(survey->path, &status) < 0 || survey->entries++ >= ENTRIES)
		return;
	report_text(report, "file ");
	report_bytes(report, survey->path + survey->base, strlen(survey->path) - survey->base);
	report_text(report, ": mode=");
	report_bits(report, status.st_mode, 8);
	if (status.st_dev != survey->device) {
		/* Of a program without mounts of its own; what lies there is not the program's. */
		report_text(report, " mounted\n");
		return;
	}
	report_text(report, " uid=");
	report_number(report, status.st_uid);
	report_text(report, " gid=");
	report_number(report, status.st_gid);
	if (!S_ISDIR(status.st_mode)) {
		report_text(report, " links=");
		report_number(report, (int64_t)status.st_nlink);
		report_text(report, " size=");
		report_number(report, status.st_size);
	}
	if (S_ISREG(status.st_mode)) {
		tell_content(survey);
	} else if (S_ISLNK(status.st_mode)) {
		ssize_t got = readlink(survey->path, target, sizeof(target));

		report_text(report, " target=");
		report_bytes(report, target, got < 0 ? 0 : (size_t)got);
	} else if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
		report_text(report, " device=");
		report_bits(report, status.st_rdev, 16);
	}
	tell_xattrs(survey);
	report_char(report, '\n');
	if (S_ISDIR(status.st_mode) && depth < DEPTH)
		survey_folder(survey, depth + 1);
}

static int no_dots(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
}

static int in_order(const struct dirent **one, const struct dirent **other)
{
	return strcmp((*one)->d_name, (*other)->d_name);
}

static void survey_folder(struct survey *survey, int depth)
{
	size_t length = strlen(survey->path);
	struct dirent **found = NULL;
	int count = scandir(survey->path, &found, no_dots, in_order);

	for (int i = 0; i < count; i++) {
		if (length + strlen(found[i]->d_name) + 2 < sizeof(survey->path)) {
			snprintf(survey->path + length, sizeof(survey->path) - length, "/%s",
				 found[i]->d_name);
			tell_entry(survey, depth);
			survey->path[length] = '\0';
		}
		free(found[i]);
	}
	free(found);
}

void tree_tell(struct report *report, const char *folder)
{
	static struct survey survey;
	struct stat status;

	/* Most leave nothing, and that is the cheapest way to see it. */
	if (rmdir(folder) == 0 || lstat(folder, &status) < 0)
		return;
	survey = (struct survey){ .report = report, .device = status.st_dev };
	survey.base = (size_t)snprintf(survey.path, sizeof(survey.path), "%s", folder);
	tell_entry(&survey, 0);
}
