/* Locks that belong to us alone: the system calls by which a copy of SQLite opens, locks and closes its files.

   The locks of POSIX belong to a process, so that another copy of SQLite in it (sqlite3 of the standard library,
   pysqlite3) neither sees ours nor can help dropping them: closing any descriptor of a file drops all locks that the
   process has on it (sqlite.org, "How To Corrupt An SQLite Database File", 2.2). Locks of an open file description
   (F_OFD_SETLK) belong to one open() of ours: for them the other copy is what another process is.

   SQLite sets a file's locks through any of its descriptors. Here, all of them go through one that is opened for this
   purpose, one a file: its Lockfile. A forked child has no part in its parent's. */

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
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
    int fd;     /* owns the locks; -1 before the first one */
    char path[];
} Lockfile;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Lockfile *lockfiles;
static Lockfile **by_fd; /* of SQLite's descriptors; NULL for one that we know nothing of */
static int descriptors;

static Lockfile *find(int fd) {
    return fd >= 0 && fd < descriptors ? by_fd[fd] : NULL;
}

static void enter(int fd, const char *path) {
    struct stat found;
    if (fstat(fd, &found) || !S_ISREG(found.st_mode)) return;
    if (fd >= descriptors) {
        Lockfile **larger = realloc(by_fd, (2 * (size_t)fd + 64) * sizeof *larger);
        if (!larger) return;
        memset(larger + descriptors, 0, (2 * (size_t)fd + 64 - descriptors) * sizeof *larger);
        by_fd = larger;
        descriptors = 2 * fd + 64;
    }
    Lockfile *file = lockfiles;
    while (file && (file->device != found.st_dev || file->inode != found.st_ino)) file = file->next;
    if (!file) {
        file = malloc(sizeof *file + strlen(path) + 1);
        if (!file) return;
        *file = (Lockfile){lockfiles, found.st_dev, found.st_ino, 0, -1};
        strcpy(file->path, path);
        lockfiles = file;
    }
    file->users++;
    by_fd[fd] = file;
}

static void leave(int fd) {
    Lockfile *file = find(fd);
    if (!file) return;
    by_fd[fd] = NULL;
    if (--file->users) return;
    if (file->fd >= 0) close(file->fd);
    Lockfile **place = &lockfiles;
    while (*place != file) place = &(*place)->next;
    *place = file->next;
    free(file);
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
    int fd = open(path, flags, mode);
    if (fd >= 0) {
        pthread_mutex_lock(&mutex);
        enter(fd, path);
        pthread_mutex_unlock(&mutex);
    }
    return fd;
}

static int locks_close(int fd) {
    pthread_mutex_lock(&mutex);
    leave(fd);
    pthread_mutex_unlock(&mutex);
    return close(fd);
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
    if (by_fd) memset(by_fd, 0, (size_t)descriptors * sizeof *by_fd);
    pthread_mutex_unlock(&mutex);
}

static PyObject *calls(PyObject *module, PyObject *nothing) {
    (void)module;
    (void)nothing;
    static int watching;
    int probe = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1};
    int works = probe >= 0 && !fcntl(probe, F_OFD_SETLK, &lock);
    if (probe >= 0) close(probe);
    if (works && !watching) watching = !pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    if (!works || !watching) return PyDict_New();
    return Py_BuildValue("{s:N,s:N,s:N}", "open", PyLong_FromVoidPtr((void *)locks_open), "close",
                         PyLong_FromVoidPtr((void *)locks_close), "fcntl", PyLong_FromVoidPtr((void *)locks_fcntl));
}

#else

static PyObject *calls(PyObject *module, PyObject *nothing) {
    (void)module;
    (void)nothing;
    return PyDict_New();
}

#endif

static PyMethodDef methods[] = {
    {"calls", calls, METH_NOARGS,
     "Addresses of functions to put in the place of SQLite's system calls, by name; empty where the system has no locks "
     "of open file descriptions."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_locks", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__locks(void) {
    return PyModule_Create(&definition);
}
