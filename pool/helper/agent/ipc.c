/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/ipc.h"

#include <errno.h>
#include <stddef.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define PLACES_MAX 65536

/*
 * The kernel keeps objects of a kind in a table. By places in it one finds them all, without /proc. gVisor has no table,
 * and takes numbers of objects for places.
 */
struct kind {
        int (*count)(void);                      /* how many there are */
        int (*look)(int place, time_t *changed); /* the number of the object, or -1 */
        int (*remove)(int id);
};

union semaphore_argument {
        struct seminfo *info;
        struct semid_ds *state;
};

static int count_memory(void) {
        struct shm_info info;

        return shmctl(0, SHM_INFO, (void *)&info) < 0 ? 0 : info.used_ids;
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

static int count_semaphores(void) {
        struct seminfo info;

        return semctl(0, 0, SEM_INFO, (union semaphore_argument){ .info = &info }) < 0 ? 0 : info.semusz;
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

static int count_queues(void) {
        struct msginfo info;

        return msgctl(0, MSG_INFO, (void *)&info) < 0 ? 0 : info.msgpool;
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
        { count_memory, look_memory, remove_memory },
        { count_semaphores, look_semaphore, remove_semaphore },
        { count_queues, look_queue, remove_queue },
};

static int remove_all(const struct kind *k, time_t since) {
        int left = k->count();

        for (int place = 0; left > 0 && place < PLACES_MAX; place++) {
                time_t changed;
                int id = k->look(place, &changed);

                if (id < 0)
                        continue;
                left--;
                if (id == 0) /* in gVisor, whatever the number; elsewhere only in the first place */
                        id = place;
                if (changed >= since && k->remove(id) < 0 && errno != EIDRM && errno != EINVAL)
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
