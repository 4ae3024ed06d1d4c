/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/ipc.h"

#include <errno.h>
#include <stddef.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define PLACES_MIN 1024 /* gVisor has no table, and takes numbers of objects for places */

/* The kernel keeps objects of a kind in a table. By places in it one finds them all, without /proc. */
struct kind {
        int (*last)(void);                           /* the highest place in use; -1 where there is no such kind */
        int (*look)(int place, time_t *changed);     /* the number of the object, or -1 */
        int (*remove)(int id);
};

union semaphore_argument {
        struct seminfo *info;
        struct semid_ds *state;
};

static int last_memory(void) {
        struct shm_info info;

        return shmctl(0, SHM_INFO, (void *)&info);
}

static int look_memory(int place, time_t *changed) {
        struct shmid_ds state;
        int id = shmctl(place, SHM_STAT, &state);

        *changed = id < 0 ? 0 : state.shm_ctime;
        return id;
}

static int remove_memory(int id) {
        return shmctl(id, IPC_RMID, NULL);
}

static int last_semaphore(void) {
        struct seminfo info;

        return semctl(0, 0, SEM_INFO, (union semaphore_argument){ .info = &info });
}

static int look_semaphore(int place, time_t *changed) {
        struct semid_ds state;
        int id = semctl(place, 0, SEM_STAT, (union semaphore_argument){ .state = &state });

        *changed = id < 0 ? 0 : state.sem_ctime;
        return id;
}

static int remove_semaphore(int id) {
        return semctl(id, 0, IPC_RMID);
}

static int last_queue(void) {
        struct msginfo info;

        return msgctl(0, MSG_INFO, (void *)&info);
}

static int look_queue(int place, time_t *changed) {
        struct msqid_ds state;
        int id = msgctl(place, MSG_STAT, &state);

        *changed = id < 0 ? 0 : state.msg_ctime;
        return id;
}

static int remove_queue(int id) {
        return msgctl(id, IPC_RMID, NULL);
}

static const struct kind kinds[] = {
        { last_memory, look_memory, remove_memory },
        { last_semaphore, look_semaphore, remove_semaphore },
        { last_queue, look_queue, remove_queue },
};

static int remove_all(const struct kind *k, time_t since) {
        int last = k->last();

        if (last >= 0 && last < PLACES_MIN)
                last = PLACES_MIN;
        for (int place = 0; place <= last; place++) {
                time_t changed;
                int id = k->look(place, &changed);

                if (id == 0) /* in gVisor, whatever the number; elsewhere only in the first place */
                        id = place;
                if (id >= 0 && changed >= since && k->remove(id) < 0 && errno != EIDRM && errno != EINVAL)
                        return -errno;
        }
        return 0;
}

int ipc_remove(time_t since) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < sizeof(kinds) / sizeof(*kinds); i++)
                r = remove_all(&kinds[i], since);
        return r;
}
