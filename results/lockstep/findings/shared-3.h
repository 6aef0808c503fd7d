static void need(int good, const char *what)
{
	if (!good) {
		perror(what);
		_exit(3);
	}
}

static void put(pid_t pid, const char *file, const char *text)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	need(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(fd);
}

static void write_maps(pid_t pid)
{
	unsigned uid = UID ? UID : geteuid(), gid = GID ? GID : getegid();
	char text[64];

	if (geteuid())
		put(pid, "setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1", MAP_ROOT ? 0 : uid, uid);
	put(pid, "uid_map", text);
	snprintf(text, sizeof(text), "%u %u 1", MAP_ROOT ? 0 : gid, gid);
	put(pid, "gid_map", text);
}

/* An overlay of its own for the program, which finds a fresh folder in it. */
static void lay_over(const char *folder)
{
	char options[256];

	need(chdir(folder) == 0, folder);
	need(mkdir("lower", 0777) == 0 && mkdir("upper", 0777) == 0 && mkdir("work", 0777) == 0 &&
	     mkdir("merged", 0777) == 0, "overlay's folders");
	snprintf(options, sizeof(options), "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work",
		 folder, folder, folder);
	need(mount("overlay", "merged", "overlay", 0, options) == 0, "mount overlay");
	need(mkdir("merged/cwd", 0755) == 0 && chown("merged/cwd", UID, GID) == 0, "merged/cwd");
}

static void set_mounts(const char *folder)
{
	if (NAMESPACES & CLONE_NEWNS)
		need(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0) == 0, "private mounts");
	if (OWN_PROC)
		need(mount("proc", "/proc", "proc", 0, 0) == 0, "mount /proc");
	if (OWN_SYS)
		need(mount("sysfs", "/sys", "sysfs", 0, 0) == 0, "mount /sys");
	if (OVERLAY && !laid)
		lay_over(folder);
	need(chdir(folder) == 0 && (!OVERLAY || chdir("merged/cwd") == 0), folder);
}

static void set_identity(void)
{
	unsigned uid = NAMESPACES & CLONE_NEWUSER && MAP_ROOT ? 0 : UID ? UID : geteuid();
	unsigned gid = NAMESPACES & CLONE_NEWUSER && MAP_ROOT ? 0 : GID ? GID : getegid();

	need(syscall(SYS_setgroups, 0, 0) == 0 || errno == EPERM, "setgroups");
	need(setresgid(gid, gid, gid) == 0, "setresgid");
	need(setresuid(uid, uid, uid) == 0, "setresuid");
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static void set_up(int gate, const char *folder)
{
	struct rlimit core = { 0, 0 }, files = { 1024, 4096 };
	struct { unsigned short length; const void *filter; } loaded = {
		(sizeof(filter) - 1) / 8, filter
	};
	char byte;

	setsid();
	need(read(gate, &byte, 1) == 1, "gate");
	umask(022);
	set_mounts(folder);
	setrlimit(RLIMIT_CORE, &core);
	setrlimit(RLIMIT_NOFILE, &files);
	for (int fd = 0; fd < 1024; fd++)
		close(fd);
	need(open("/dev/null", O_RDWR) == 0 && dup(0) == 1 && dup(0) == 2, "/dev/null");
	set_identity();
	need(!NO_NEW_PRIVS || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
	need(!loaded.length || prctl(PR_SET_SECCOMP, 2, &loaded, 0, 0) == 0, "seccomp");
}

static int same_call(const struct side *side, int index, int64_t bits)
{
	int64_t want = side->values[index], got = seen->values[index];
	size_t at = 0;

	if (want == INT64_MAX ? got < 0 && got >= -4095 : (got ^ want) & bits)
		return 0;
	for (int i = 0; outputs[i].call >= 0; i++)
		for (unsigned k = 0; k < outputs[i].length; k++, at++)
			/* the bytes of a side have a sign */
			if (outputs[i].call == index &&
			    (unsigned char)((seen->outputs[at] ^ side->outputs[at]) & side->mask[at]))
				return 0;
	return 1;
}

static int same(const struct side *side)
{
	for (int i = 0; i < CALLS; i++)
		if (!same_call(side, i, -1))
			return 0;
	return 1;
}

static int reached(int64_t value)
{
	return value != INT64_MIN && value != INT64_MAX - 1;
}

/* Exit status: 0 what is expected, 1 anything else, 3 the program did not get that far. */
static int verdict(int status, int timed_out)
{
	for (int i = 0; chain[i] >= 0; i++) {
		int64_t value = seen->values[chain[i]];
		int last = chain[i + 1] < 0, error = value < 0 && value >= -4095 ? (int)-value : 0;

		if (value == INT64_MIN)
			return 3;
		if (!reached(value))
			return timed_out ? expect != HANGS :
			       !(expect == SIGNALLED && WIFSIGNALED(status) &&
				 WTERMSIG(status) == expected);
		for (int k = 0; last && fine[k]; k++)
			error = error == fine[k] ? 0 : error;
		if (error)
			return !(expect == FAILS && error == expected);
		if (last)
			return expect == SEEN ? !same_call(&sides[0], chain[i], BITS) : expect != WORKS;
	}
	return 3;
}

static int wait_for(pid_t child, int *timed_out)
{
	int status = 0;

	*timed_out = 0;
	for (int waited = 0; waitpid(child, &status, WNOHANG) == 0; waited += 10) {
		if (waited > SECONDS * 1000) {
			*timed_out = 1;
			kill(-child, SIGKILL);
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			break;
		}
		poll(0, 0, 10);
	}
	return status;
}

int main(void)
{
	const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	int shared = MAP_SHARED | MAP_ANONYMOUS, status, timed_out, gate[2];
	struct statfs place;
	char folder[128];
	pid_t child;

	need(statfs(base, &place) == 0, base);
	need(!EXT4 || place.f_type == EXT4_MAGIC, "TMPDIR has to be on ext4");
	snprintf(folder, sizeof(folder), "%s/reproducer-XXXXXX", base);
	need(mkdtemp(folder) && chmod(folder, 0777) == 0 && pipe(gate) == 0, folder);
	need(!UID || chown(folder, UID, GID) == 0, "chown");
	seen = mmap(0, sizeof(*seen), PROT_READ | PROT_WRITE, shared, -1, 0);
	need(seen != MAP_FAILED, "mmap");
	for (int i = 0; i < CALLS; i++)
		seen->values[i] = INT64_MIN;
	if (OVERLAY && geteuid() == 0) {
		/* Not from a user namespace, where older kernels mount none. */
		need(unshare(CLONE_NEWNS) == 0, "unshare");
		need(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0) == 0, "private mounts");
		lay_over(folder);
		laid = 1;
	}
	child = (pid_t)syscall(SYS_clone, NAMESPACES | SIGCHLD, 0, 0, 0, 0);
	need(child >= 0, "clone");
	if (child == 0) {
		set_up(gate[0], folder);
		arena = mmap((void *)0x200000000000, ARENA, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		need(arena != MAP_FAILED, "mmap");
		for (int i = 0; data[i].bytes; i++)
			memcpy(arena + data[i].offset, data[i].bytes, data[i].length);
		program();
		_exit(0);
	}
	if (NAMESPACES & CLONE_NEWUSER)
		write_maps(child);
	need(write(gate[1], "", 1) == 1, "gate");
	status = wait_for(child, &timed_out);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 3 && seen->values[0] == INT64_MIN)
		return 3;
	for (int i = 0; i < CALLS && reached(seen->values[i]); i++) {
		int64_t value = seen->values[i];

		printf("r%d %s = %lld%s%s\n", i, names[i], (long long)value,
		       value < 0 && value >= -4095 ? " " : "",
		       value < 0 && value >= -4095 ? strerror((int)-value) : "");
	}
	printf("status 0x%x%s, files in %s\n", status, timed_out ? ", too late" : "", folder);
	if (expect != NOTHING)
		return verdict(status, timed_out);
	for (int i = 0; i < SIDES; i++) {
		if (same(&sides[i])) {
			printf("as %s\n", sides[i].name);
			return i;
		}
	}
	return SIDES ? 2 : 0;
}
