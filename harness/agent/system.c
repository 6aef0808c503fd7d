/* What concerns the machine as a whole: who we are, clock, entropy, shell, reset, power. */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

/* Written by the build from what cffi makes of protocol.h: { "name", offsetof, sizeof }. */
static const struct wire_layout layouts[] = {
#include "layouts.h"
};

#define SHELL_TTY "/dev/ttyS1"
#define MOUNTS 512
/* Most bytes of entropy taken at once. */
#define ENTROPY 512

int hello(struct answer *answer)
{
	struct wire_hello *hello = answer_room(answer, sizeof(*hello));
	struct utsname name;
	struct sysinfo info;

	if (!hello || uname(&name) < 0 || sysinfo(&info) < 0)
		return answer_error(answer, -errno, "hello");
	hello->version = WIRE_VERSION;
	hello->pid1 = agent.pid1;
	hello->euid = geteuid();
	hello->cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	hello->memory = (uint64_t)info.totalram * info.mem_unit;
	hello->features = agent.features;
	hello->layouts = sizeof(layouts) / sizeof(layouts[0]);
	hello->missing = (uint32_t)agent.missing.length;
	hello->failed = (uint32_t)agent.failed.length;
	snprintf(hello->release, sizeof(hello->release), "%s", name.release);
	snprintf(hello->machine, sizeof(hello->machine), "%s", name.machine);
	if (answer_bytes(answer, layouts, sizeof(layouts)) ||
	    answer_bytes(answer, agent.missing.text, agent.missing.length) ||
	    answer_bytes(answer, agent.failed.text, agent.failed.length))
		return answer_error(answer, -E2BIG, "hello");
	return 0;
}

int system_reset(void)
{
	family_kill_all();
	scratch_reset();
	return 0;
}

/* A machine brought back from a saved state repeats its random numbers unless told others. */
static int stir(const uint8_t *bytes, uint32_t length)
{
	union {
		struct rand_pool_info head;
		uint8_t bytes[sizeof(struct rand_pool_info) + ENTROPY];
	} pool;
	int fd, error = 0;

	if (length > ENTROPY)
		return -EINVAL;
	pool.head.entropy_count = (int)length * 8;
	pool.head.buf_size = (int)length;
	memcpy(pool.head.buf, bytes, length);
	fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* random(4): RNDADDENTROPY counts, RNDRESEEDCRNG makes it take effect at once. */
	if (ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		error = -errno;
	close(fd);
	return error;
}

int system_clock(struct cursor *cursor, struct answer *answer)
{
	const struct wire_clock *ask = take(cursor, sizeof(*ask));
	const uint8_t *entropy = ask ? take(cursor, ask->entropy) : NULL;
	struct timespec now;
	int error;

	if (!entropy)
		return answer_error(answer, -EBADMSG, "clock request");
	if (!agent.pid1)
		return answer_error(answer, -EPERM, "clock: not PID 1");
	now = (struct timespec){ .tv_sec = ask->seconds, .tv_nsec = (long)ask->nanoseconds };
	if (clock_settime(CLOCK_REALTIME, &now) < 0)
		return answer_error(answer, -errno, "clock_settime");
	error = ask->entropy ? stir(entropy, ask->entropy) : 0;
	return error ? answer_error(answer, error, "entropy") : 0;
}

/*
 * The host cannot see a serial line hang up, but it sees a machine end: so the
 * end of the shell is the end of the machine, as nobody is left to use it.
 */
static _Noreturn void attend_shell(pid_t shell)
{
	while (waitpid(shell, NULL, 0) < 0 && errno == EINTR)
		;
	system_power_off();
	_exit(1);
}

static _Noreturn void become_shell(int tty)
{
	static char *argv[] = { "sh", "-i", NULL };
	static char *envp[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/", "TERM=linux", "PS1=\\h:\\w# ", NULL,
	};
	sigset_t none;

	setsid();
	ioctl(tty, TIOCSCTTY, 1);
	dup2(tty, 0);
	dup2(tty, 1);
	dup2(tty, 2);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (chdir("/") == 0)
		execve("/bin/sh", argv, envp);
	_exit(127);
}

int system_shell(struct answer *answer)
{
	int tty;
	pid_t pid;

	if (!agent.pid1)
		return answer_error(answer, -EPERM, "shell: not PID 1");
	tty = open(SHELL_TTY, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (tty < 0)
		return answer_error(answer, -errno, SHELL_TTY);
	pid = fork();
	if (pid == 0) {
		pid = fork();
		if (pid == 0)
			become_shell(tty);
		attend_shell(pid);
	}
	close(tty);
	return pid < 0 ? answer_error(answer, -errno, "fork") : 0;
}

/* Last mounted, first unmounted; the root and what is busy just lose their last writes' delay. */
static void unmount_all(void)
{
	static char text[65536], *points[MOUNTS];
	size_t count = 0;

	if (read_file("/proc/self/mounts", text, sizeof(text)) < 0)
		return;
	for (char *line = strtok(text, "\n"); line && count < MOUNTS; line = strtok(NULL, "\n")) {
		char *point = strchr(line, ' ');
		char *end = point ? strchr(point + 1, ' ') : NULL;

		if (!end)
			continue;
		*end = '\0';
		points[count++] = point + 1;
	}
	while (count--)
		if (strcmp(points[count], "/"))
			umount2(points[count], MNT_DETACH);
}

void system_power_off(void)
{
	family_kill_all();
	sync();
	unmount_all();
	sync();
	reboot(RB_POWER_OFF);
	die("power off");
}
