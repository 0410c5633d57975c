// The first process of the guest that the tests boot: runs the commands of "script=" on the kernel's command line, one
// after the other, separated by ';', with '+' for a space; or, without it, those that are typed on the console. What it
// prints starts with "init: ", so that a test finds it between the kernel's messages.
// A command of the script that fails says so, and the guest powers off.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kChunk = 64 * 1024, kMaxArguments = 8 };

static int failed(const char *what) {
    printf("init: failed: %s: %s\n", what, strerror(errno));
    return -1;
}

// A stream of bytes that depends on its seed alone.
struct stream {
    uint64_t state;
};

static uint64_t next(struct stream *s) {
    uint64_t x = s->state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return s->state = x;
}

static void fill(struct stream *s, uint64_t *words, size_t bytes) {
    for (size_t i = 0; i < bytes / 8; ++i)
        words[i] = next(s);
}

// write FILE SEED KIB: writes the stream and fsyncs.
static int do_write(char **argument) {
    static uint64_t buffer[kChunk / 8];
    struct stream s = {strtoull(argument[2], NULL, 10) * 2654435761u + 1};
    int fd = open(argument[1], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        return failed(argument[1]);
    for (long left = atol(argument[3]) * 1024; left > 0; left -= kChunk) {
        fill(&s, buffer, kChunk);
        size_t bytes = left < kChunk ? left : kChunk;
        if (write(fd, buffer, bytes) != (ssize_t)bytes)
            return failed("write");
    }
    if (fsync(fd) < 0)
        return failed("fsync");
    close(fd);
    return 0;
}

// verify FILE SEED KIB: reads from the disk, and compares.
static int do_verify(char **argument) {
    static uint64_t buffer[kChunk / 8], expected[kChunk / 8];
    struct stream s = {strtoull(argument[2], NULL, 10) * 2654435761u + 1};
    int drop = open("/proc/sys/vm/drop_caches", O_WRONLY);
    if (drop >= 0) {
        if (write(drop, "3", 1) != 1)
            return failed("drop_caches");
        close(drop);
    }
    int fd = open(argument[1], O_RDONLY);
    if (fd < 0)
        return failed(argument[1]);
    for (long left = atol(argument[3]) * 1024; left > 0; left -= kChunk) {
        fill(&s, expected, kChunk);
        size_t bytes = left < kChunk ? left : kChunk;
        if (read(fd, buffer, bytes) != (ssize_t)bytes)
            return failed("read");
        if (memcmp(buffer, expected, bytes) != 0) {
            printf("init: failed: %s is not what was written\n", argument[1]);
            return -1;
        }
    }
    close(fd);
    return 0;
}

static int do_mount(char **argument) {
    mkdir(argument[2], 0755);
    if (mount(argument[1], argument[2], "ext4", 0, NULL) < 0)
        return failed("mount");
    return 0;
}

static int do_umount(char **argument) {
    return umount(argument[1]) < 0 ? failed("umount") : 0;
}

static int do_echo(char **argument) {
    printf("init:");
    for (int i = 1; argument[i]; ++i)
        printf(" %s", argument[i]);
    printf("\n");
    return 0;
}

static int do_cat(char **argument) {
    char line[256];
    FILE *file = fopen(argument[1], "r");
    if (!file)
        return failed(argument[1]);
    while (fgets(line, sizeof line, file))
        printf("init: %s%s", line, strchr(line, '\n') ? "" : "\n");
    fclose(file);
    return 0;
}

static int do_ls(char **argument) {
    DIR *dir = opendir(argument[1]);
    if (!dir)
        return failed(argument[1]);
    for (struct dirent *entry; (entry = readdir(dir));)
        printf("init: %s\n", entry->d_name);
    closedir(dir);
    return 0;
}

// spin MS: computes for as long, and says how long it was by the clock.
static int do_spin(char **argument) {
    struct timespec start, now;
    long ms, wanted = atol(argument[1]);
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
        ms = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
    } while (ms < wanted);
    return 0;
}

static int do_sleep(char **argument) {
    usleep(atol(argument[1]) * 1000);
    return 0;
}

// entropy FILE: 32 bytes can be read there, and they are not all the same.
static int do_entropy(char **argument) {
    unsigned char bytes[32];
    int fd = open(argument[1], O_RDONLY), same = 1;
    if (fd < 0 || read(fd, bytes, sizeof bytes) != sizeof bytes)
        return failed(argument[1]);
    for (unsigned i = 1; i < sizeof bytes; ++i)
        same &= bytes[i] == bytes[0];
    close(fd);
    errno = EIO;
    return same ? failed("entropy") : 0;
}

// on-all-cpus MS: a process for each spins for as long.
static int do_on_all_cpus(char **argument) {
    int cpus = get_nprocs(), status, result = 0;
    for (int i = 0; i < cpus; ++i)
        if (fork() == 0)
            _exit(do_spin(argument) < 0);
    for (int i = 0; i < cpus; ++i)
        if (wait(&status) < 0 || status)
            result = -1;
    printf("init: %d processors\n", cpus);
    return result;
}

static int do_sync(char **argument) {
    (void)argument;
    sync();
    return 0;
}

static int halt(int how) {
    sync();
    fflush(stdout);
    return reboot(how) < 0 ? failed("reboot") : 0;
}

static int do_poweroff(char **argument) {
    (void)argument;
    return halt(RB_POWER_OFF);
}

static int do_reboot(char **argument) {
    (void)argument;
    return halt(RB_AUTOBOOT);
}

static const struct command {
    const char *name;
    int arguments;
    int (*run)(char **argument);
} kCommands[] = {
    {"cat", 1, do_cat},           {"echo", 1, do_echo},   {"entropy", 1, do_entropy},
    {"ls", 1, do_ls},             {"mount", 2, do_mount}, {"on-all-cpus", 1, do_on_all_cpus},
    {"poweroff", 0, do_poweroff}, {"reboot", 0, do_reboot}, {"sleep", 1, do_sleep},
    {"spin", 1, do_spin},         {"sync", 0, do_sync},   {"umount", 1, do_umount},
    {"verify", 3, do_verify},     {"write", 3, do_write},
};

static int run(char *line) {
    char *argument[kMaxArguments + 1] = {0};
    int count = 0;
    for (char *word = strtok(line, " \t\r\n"); word && count < kMaxArguments; word = strtok(NULL, " \t\r\n"))
        argument[count++] = word;
    if (count == 0)
        return 0;
    for (unsigned i = 0; i < sizeof kCommands / sizeof kCommands[0]; ++i)
        if (strcmp(kCommands[i].name, argument[0]) == 0 && count > kCommands[i].arguments)
            return kCommands[i].run(argument);
    errno = ENOSYS;
    return failed(argument[0]);
}

static char *script_of_command_line(void) {
    static char text[4096];
    int fd = open("/proc/cmdline", O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    if (got < 0)
        return NULL;
    text[got] = 0;
    char *script = strstr(text, "script=");
    if (!script)
        return NULL;
    script += 7;
    script[strcspn(script, " \n")] = 0;
    for (char *c = script; *c; ++c)
        *c = *c == '+' ? ' ' : *c;
    return script;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mount("none", "/proc", "proc", 0, NULL);
    mount("none", "/sys", "sysfs", 0, NULL);
    mount("none", "/dev", "devtmpfs", 0, NULL);
    printf("init: started\n");
    char *script = script_of_command_line();
    for (char *line = script; line;) {
        char *end = strchr(line, ';');
        if (end)
            *end = 0;
        if (run(line) < 0)
            halt(RB_POWER_OFF);
        line = end ? end + 1 : NULL;
    }
    char line[256];
    printf("init: ready\n");
    while (fgets(line, sizeof line, stdin))
        if (run(line) == 0)
            printf("init: done\n");
    halt(RB_POWER_OFF);
    return 1;
}
