/* Locks that belong to us alone: the system calls by which a copy of SQLite opens, locks and closes its files.

   The locks of POSIX belong to a process, so that another copy of SQLite in it (sqlite3 of the standard library,
   pysqlite3) neither sees ours nor can help dropping them: closing any descriptor of a file drops all locks that the
   process has on it (sqlite.org, "How To Corrupt An SQLite Database File", 2.2). Locks of an open file description
   (F_OFD_SETLK) belong to one open() of ours: for them the other copy is what another process is.

   SQLite sets a file's locks through any of its descriptors. Here, all of them go through one that is opened for this
   purpose, one a file: its Lockfile. A forked child has no part in its parent's.

   Nor must we drop theirs: while another copy has the file open, our descriptors of it stay open, to be used again. */

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef F_OFD_SETLK

typedef struct Lockfile {
    struct Lockfile *next;
    dev_t device;
    ino_t inode;
    int users;  /* SQLite's descriptors of the file */
    int parked; /* descriptors that SQLite has closed, and we have not */
    int fd;     /* owns the locks; -1 before the first one */
    char path[];
} Lockfile;

typedef struct {
    Lockfile *file; /* NULL for a descriptor that we know nothing of */
    int parked;
} Descriptor;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Lockfile *lockfiles;
static Descriptor *known; /* by number */
static int descriptors;   /* how many numbers `known` has */
static int parked;        /* in all files */

static Lockfile *find(int fd) {
    return fd >= 0 && fd < descriptors && !known[fd].parked ? known[fd].file : NULL;
}

static Lockfile *find_file(const struct stat *found) {
    Lockfile *file = lockfiles;
    while (file && (file->device != found->st_dev || file->inode != found->st_ino)) file = file->next;
    return file;
}

static void enter(int fd, const char *path) {
    struct stat found;
    if (fstat(fd, &found) || !S_ISREG(found.st_mode)) return;
    if (fd >= descriptors) {
        Descriptor *larger = realloc(known, (2 * (size_t)fd + 64) * sizeof *larger);
        if (!larger) return;
        memset(larger + descriptors, 0, (2 * (size_t)fd + 64 - descriptors) * sizeof *larger);
        known = larger;
        descriptors = 2 * fd + 64;
    }
    Lockfile *file = find_file(&found);
    if (!file) {
        file = malloc(sizeof *file + strlen(path) + 1);
        if (!file) return;
        *file = (Lockfile){lockfiles, found.st_dev, found.st_ino, 0, 0, -1};
        strcpy(file->path, path);
        lockfiles = file;
    }
    file->users++;
    known[fd] = (Descriptor){file, 0};
}

/* Whether somebody else in this process has the file open; if that cannot be told, yes. */
static int others_have_open(dev_t device, ino_t inode) {
    DIR *folder = opendir("/dev/fd");
    if (!folder) return 1;
    int others = 0;
    struct dirent *entry;
    while (!others && (entry = readdir(folder))) {
        char *end;
        long number = strtol(entry->d_name, &end, 10);
        struct stat found;
        if (*end || end == entry->d_name || (number < descriptors && known[number].file)) continue;
        if (fstat((int)number, &found) || found.st_dev != device || found.st_ino != inode) continue;
        others = 1;
        for (Lockfile *file = lockfiles; file; file = file->next) others &= file->fd != number;
    }
    closedir(folder);
    return others;
}

/* Whether closing a descriptor of the file would drop locks of another copy. */
static int must_stay_open(const Lockfile *file, int fd) {
    struct stat found;
    if (fstat(fd, &found) || !found.st_nlink) return 0; /* nobody will find it any more */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (!fcntl(file->fd < 0 ? fd : file->fd, F_OFD_GETLK, &lock) && lock.l_type == F_UNLCK) return 0; /* none there */
    return others_have_open(file->device, file->inode);
}

/* Close the file's parked descriptors; forget it, if SQLite has none. */
static void settle(Lockfile *file) {
    for (int fd = 0; fd < descriptors && file->parked; fd++) {
        if (known[fd].file != file || !known[fd].parked) continue;
        known[fd] = (Descriptor){NULL, 0};
        close(fd);
        file->parked--;
        parked--;
    }
    if (file->users) return;
    if (file->fd >= 0) close(file->fd);
    Lockfile **place = &lockfiles;
    while (*place != file) place = &(*place)->next;
    *place = file->next;
    free(file);
}

/* Close what had to stay open and need not any more. */
static void sweep(void) {
    if (!parked) return;
    for (int fd = 0; fd < descriptors; fd++) {
        if (known[fd].parked && !must_stay_open(known[fd].file, fd)) settle(known[fd].file);
    }
}

static int leave(int fd) {
    Lockfile *file = find(fd);
    if (!file) return close(fd);
    file->users--;
    known[fd].parked = 1;
    file->parked++;
    parked++;
    if (!file->users && file->fd >= 0) { /* SQLite leaves its last locks to close() */
        struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
        fcntl(file->fd, F_OFD_SETLK, &lock);
    }
    if (!must_stay_open(file, fd)) settle(file);
    return 0;
}

/* A parked descriptor of the file, to be used again; -1 if there is none. */
static int reuse(const char *path, int flags) {
    struct stat found;
    if (!parked || flags & (O_EXCL | O_TRUNC) || stat(path, &found)) return -1;
    Lockfile *file = find_file(&found);
    for (int fd = 0; file && file->parked && fd < descriptors; fd++) {
        if (known[fd].file != file || !known[fd].parked) continue;
        if ((fcntl(fd, F_GETFL) & O_ACCMODE) != (flags & O_ACCMODE)) continue;
        known[fd].parked = 0;
        file->parked--;
        parked--;
        file->users++;
        return fd;
    }
    return -1;
}

/* The descriptor that owns the file's locks; -1 and errno if there is none. */
static int owner(Lockfile *file) {
    if (file->fd >= 0) return file->fd;
    int fd = open(file->path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno != EMFILE && errno != ENFILE) fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fd < 3) { /* where a program that closed its standard output would write to it */
        int higher = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        close(fd);
        fd = higher;
    }
    if (fd < 0) return -1;
    struct stat found;
    if (fstat(fd, &found) || found.st_dev != file->device || found.st_ino != file->inode) {
        close(fd);
        errno = ENOENT; /* another file has the name now */
        return -1;
    }
    return file->fd = fd;
}

static int locks_open(const char *path, int flags, int mode) {
    pthread_mutex_lock(&mutex);
    sweep();
    int fd = reuse(path, flags);
    pthread_mutex_unlock(&mutex);
    if (fd >= 0) return fd;
    fd = open(path, flags, mode);
    if (fd >= 0) {
        pthread_mutex_lock(&mutex);
        enter(fd, path);
        pthread_mutex_unlock(&mutex);
    }
    return fd;
}

static int locks_close(int fd) {
    pthread_mutex_lock(&mutex);
    int status = leave(fd);
    sweep();
    pthread_mutex_unlock(&mutex);
    return status;
}

static int locks_fcntl(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (command != F_GETLK && command != F_SETLK && command != F_SETLKW) return fcntl(fd, command, argument);

    pthread_mutex_lock(&mutex);
    Lockfile *file = find(fd);
    int own = file ? owner(file) : -1;
    pthread_mutex_unlock(&mutex);
    if (!file) return fcntl(fd, command, argument);
    if (own < 0) return -1;
    struct flock *lock = argument;
    lock->l_pid = 0;
    return fcntl(own, command == F_GETLK ? F_OFD_GETLK : command == F_SETLK ? F_OFD_SETLK : F_OFD_SETLKW, lock);
}

static void before_fork(void) {
    pthread_mutex_lock(&mutex);
}

static void after_fork_in_parent(void) {
    pthread_mutex_unlock(&mutex);
}

/* What SQLite has open here is the parent's: give up our part in its locks, so that they end when it ends. */
static void after_fork_in_child(void) {
    for (Lockfile *file = lockfiles; file; file = file->next) {
        if (file->fd >= 0) close(file->fd);
    }
    lockfiles = NULL; /* not freed: this may run in the middle of anything */
    for (int fd = 0; fd < descriptors; fd++) {
        if (known[fd].parked) close(fd);
        known[fd] = (Descriptor){NULL, 0};
    }
    parked = 0;
    pthread_mutex_unlock(&mutex);
}

static PyObject *calls(PyObject *module, PyObject *nothing) {
    (void)module;
    (void)nothing;
    static int watching;
#ifdef __linux__
    FILE *probe = fopen("/dev/null", "r");
#else
    FILE *probe = tmpfile(); /* a device may have no locks */
#endif
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1};
    int works = probe && !fcntl(fileno(probe), F_OFD_SETLK, &lock);
    if (probe) fclose(probe);
    if (works && !watching) watching = !pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    if (!works || !watching) return PyDict_New();
    return Py_BuildValue("{s:N,s:N,s:N}", "open", PyLong_FromVoidPtr((void *)locks_open), "close",
                         PyLong_FromVoidPtr((void *)locks_close), "fcntl", PyLong_FromVoidPtr((void *)locks_fcntl));
}

static PyObject *others(PyObject *module, PyObject *path) {
    (void)module;
    PyObject *bytes;
    if (!PyUnicode_FSConverter(path, &bytes)) return NULL;
    struct stat found;
    int answer = 0;
    if (!stat(PyBytes_AsString(bytes), &found)) {
        pthread_mutex_lock(&mutex);
        answer = others_have_open(found.st_dev, found.st_ino);
        pthread_mutex_unlock(&mutex);
    }
    Py_DECREF(bytes);
    return PyBool_FromLong(answer);
}

#else

static PyObject *calls(PyObject *module, PyObject *nothing) {
    (void)module;
    (void)nothing;
    return PyDict_New();
}

static PyObject *others(PyObject *module, PyObject *path) {
    (void)module;
    (void)path;
    return PyBool_FromLong(0);
}

#endif

static PyMethodDef methods[] = {
    {"calls", calls, METH_NOARGS,
     "Addresses of functions to put in the place of SQLite's system calls, by name; empty where the system has no locks "
     "of open file descriptions."},
    {"others", others, METH_O,
     "Whether something in this process other than our copy of SQLite has the file at a path open; False where the "
     "system has no locks of open file descriptions."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_locks", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__locks(void) {
    return PyModule_Create(&definition);
}
