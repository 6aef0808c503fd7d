/* PID 1: from an initramfs to a machine on which containers could run. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent.h"

#define NEW_ROOT "/hostabi/root"
#define PORT "hostabi.agent"
#define HOST_NAME "hostabi"

static const char *const applets[] = {
	"bin/sh", "bin/ls", "bin/cat", "bin/ps", "bin/mount", "bin/umount", "bin/dmesg",
	"bin/grep", "bin/vi", "sbin/modprobe", "sbin/insmod", "sbin/lsmod", "sbin/ip",
};

static void mount_kernel_files(void)
{
	mount_at("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (mount_at("devtmpfs", "/dev", MS_NOSUID, "mode=755") < 0)
		say("no devtmpfs: this kernel lacks CONFIG_DEVTMPFS");
}

/* 0, 1 and 2 are /dev/null for good; words for the reader go to the kernel's log. */
static void plain_start(void)
{
	umask(022);
	if (plain_descriptors(false) < 0)
		die("descriptors");
}

static int copy_file(const char *from, const char *to, mode_t mode)
{
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
	ssize_t n = -1;

	if (in >= 0 && out >= 0)
		while ((n = sendfile(out, in, NULL, 1 << 24)) > 0)
			;
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return n < 0 ? -errno : 0;
}

static void make_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0)
		return;
	close(fd);
	write_file(path, text);
}

static void fill_root(void)
{
	static const char *const folders[] = {
		"bin", "sbin", "etc", "proc", "sys", "dev", "run", "work", "scratch",
		"lib/modules", "runtimes", "root", "usr/bin", "usr/sbin", "var",
	};
	char path[128];

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, sizeof(path), NEW_ROOT "/%s", folders[i]);
		make_folder(path, 0755);
	}
	make_folder(NEW_ROOT "/tmp", 01777);
	if (copy_file("/bin/busybox", NEW_ROOT "/bin/busybox", 0755) < 0)
		say("no busybox in the initramfs");
	for (size_t i = 0; i < sizeof(applets) / sizeof(applets[0]); i++) {
		snprintf(path, sizeof(path), NEW_ROOT "/%s", applets[i]);
		if (symlink("/bin/busybox", path) < 0)
			say("%s: %s", path, strerror(errno));
	}
	make_file(NEW_ROOT "/etc/passwd",
		  "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n");
	make_file(NEW_ROOT "/etc/group", "root:x:0:\nnogroup:x:65534:\n");
	make_file(NEW_ROOT "/etc/hostname", HOST_NAME "\n");
	make_file(NEW_ROOT "/etc/hosts", "127.0.0.1 localhost " HOST_NAME "\n");
}

/*
 * The initramfs cannot be the old root of a pivot_root(2) before 7.2, nor be
 * unmounted. Its place is taken by moving a tmpfs over it; the kernel's own
 * threads share this process's root, so modprobe is found in the new one too.
 */
static void leave_initramfs(void)
{
	static const char *const moved[] = { "/proc", "/sys", "/dev" };
	char path[64];

	make_folder(NEW_ROOT, 0755);
	if (mount("tmpfs", NEW_ROOT, "tmpfs", 0, "mode=755") < 0)
		die("tmpfs for the root");
	fill_root();
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), NEW_ROOT "%s", moved[i]);
		if (mount(moved[i], path, NULL, MS_MOVE, NULL) < 0)
			say("%s stays behind: %s", moved[i], strerror(errno));
	}
	/* What is of no use any more gives its memory back. */
	remove_tree("/modules");
	unlink("/bin/busybox");
	if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		die("leave the initramfs");
}

static void mount_devices(void)
{
	mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,gid=5,ptmxmode=666");
	make_folder("/dev/shm", 01777);
	mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_at("mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (symlink("/proc/self/fd", "/dev/fd") < 0 || symlink("fd/0", "/dev/stdin") < 0 ||
	    symlink("fd/1", "/dev/stdout") < 0 || symlink("fd/2", "/dev/stderr") < 0)
		say("links in /dev: %s", strerror(errno));
}

static void mount_extras(void)
{
	if (mount_at("tracefs", "/sys/kernel/tracing", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0)
		agent.features |= WIRE_HAS_TRACEFS;
	if (mount_at("debugfs", "/sys/kernel/debug", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0)
		agent.features |= WIRE_HAS_DEBUGFS;
	mount_at("securityfs", "/sys/kernel/security", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("bpf", "/sys/fs/bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700");
}

static void raise_loopback(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo" };

	if (fd < 0)
		return;
	if (ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
		request.ifr_flags |= IFF_UP;
		ioctl(fd, SIOCSIFFLAGS, &request);
	}
	close(fd);
}

void init(void)
{
	mount_kernel_files();
	plain_start();
	boot_early();
	leave_initramfs();
	mount_devices();
	mount_extras();
	raise_loopback();
	if (sethostname(HOST_NAME, strlen(HOST_NAME)) < 0)
		say("hostname: %s", strerror(errno));
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	write_file("/proc/sys/kernel/modprobe", "/sbin/modprobe");
	boot_late();
	agent.channel = open_port(PORT, now_ms() + agent.patience);
	if (agent.channel < 0)
		die("port " PORT);
	say("waiting for the host");
}
