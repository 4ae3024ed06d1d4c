/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/wire/codec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/backend.h"
#include "pool/backend/modal/wire/messages.h"
#include "pool/util/cleanup.h"
#include "pool/util/text.h"

#define CREATE_IF_MISSING 1 /* ObjectCreationType */
#define NETWORK_OPEN 1      /* NetworkAccessType */
#define NETWORK_BLOCKED 2
#define NETWORK_ALLOWLIST 3

/* What each GenericStatus is called, and what it means. */
struct result_words {
        const char *name, *meaning;
};

static const struct result_words *words_of(int status) {
        static const struct result_words unknown = { "unknown", "for a reason that is not known here" }, known[] = {
                [MODAL_RESULT_NONE] = { "unspecified", "it has not ended" },
                [MODAL_RESULT_SUCCESS] = { "success", "it ended by itself" },
                [MODAL_RESULT_FAILURE] = { "failure", "it failed" },
                [MODAL_RESULT_TERMINATED] = { "terminated", "it was terminated" },
                [MODAL_RESULT_TIMEOUT] = { "timeout", "its time limit is over" },
                [MODAL_RESULT_INIT_FAILURE] = { "init_failure", "it could not be started" },
                [MODAL_RESULT_INTERNAL_FAILURE] = { "internal_failure", "an internal failure of Modal" },
                [MODAL_RESULT_IDLE_TIMEOUT] = { "idle_timeout", "it was idle for too long" },
                [MODAL_RESULT_MEMORY_MANAGER_EVICTION] = { "memory_manager_eviction", "Modal's memory manager evicted it" },
                [MODAL_RESULT_MEMORY_THRASHING_EVICTION] = { "memory_thrashing_eviction",
                                                             "out of memory: Modal evicted it, as its memory thrashed" },
                [MODAL_RESULT_KERNEL_OOM_KILL] = { "kernel_oom_kill", "out of memory: the kernel killed it" },
        };

        return status >= 0 && (size_t)status < sizeof(known) / sizeof(known[0]) ? &known[status] : &unknown;
}

const char *modal_result_name(int status) {
        return words_of(status)->name;
}

void modal_result_explain(const struct modal_result *r, char out[static MODAL_RESULT_TEXT_MAX]) {
        const struct result_words *words = words_of(r->status);
        char code[32] = "", number[32] = "";

        if (!strcmp(words->name, "unknown"))
                snprintf(number, sizeof(number), " status %d", r->status);
        if (r->exit_code != 0)
                snprintf(code, sizeof(code), ", exit code %d", r->exit_code);
        snprintf(out, MODAL_RESULT_TEXT_MAX, "%s (%s%s%s)%s%s", words->meaning, words->name, number, code,
                 *r->text ? ": " : "", r->text);
}

static void copy_result(struct modal_result *out, const ModalWire__GenericResult *r) {
        *out = (struct modal_result){};
        if (!r)
                return;
        out->status = r->status;
        out->exit_code = r->exitcode;
        snprintf(out->text, sizeof(out->text), "%s", r->exception ? r->exception : "");
}

/* start */

int modal_pack_environment(struct buf *out, const char *name) {
        ModalWire__EnvironmentRequest m = MODAL_WIRE__ENVIRONMENT_REQUEST__INIT;

        m.name = TEXT(name);
        return modal_pack(out, &m.base);
}

int modal_read_environment(const void *data, size_t len, char **builder_version) {
        UNPACK(m, environment_reply, data, len);
        ModalWire__EnvironmentReply *m = (void *)m_base;

        if (!m)
                return -EBADMSG;
        return modal_copy(builder_version,
                    m->metadata && m->metadata->settings ? m->metadata->settings->image_builder_version : NULL);
}

int modal_read_token(const void *data, size_t len, char **token) {
        UNPACK(m, token_reply, data, len);
        ModalWire__TokenReply *m = (void *)m_base;

        return m && m->token && *m->token ? modal_copy(token, m->token) : -EBADMSG;
}

int modal_pack_app(struct buf *out, const char *app, const char *environment) {
        ModalWire__AppRequest m = MODAL_WIRE__APP_REQUEST__INIT;

        m.app_name = TEXT(app);
        m.environment_name = TEXT(environment);
        m.has_creation = true;
        m.creation = CREATE_IF_MISSING;
        return modal_pack(out, &m.base);
}

int modal_pack_named(struct buf *out, const char *name, const char *environment) {
        ModalWire__NamedRequest m = MODAL_WIRE__NAMED_REQUEST__INIT;

        m.name = TEXT(name);
        m.environment_name = TEXT(environment);
        return modal_pack(out, &m.base);
}

int modal_read_id(const void *data, size_t len, char **id) {
        UNPACK(m, id_reply, data, len);
        ModalWire__IdReply *m = (void *)m_base;

        return m ? modal_copy_id(id, m->id) : -EBADMSG;
}

int modal_pack_image(struct buf *out, const char *app_id, const char *builder_version, char *const *commands,
                     size_t n_commands) {
        ModalWire__ImageRequest m = MODAL_WIRE__IMAGE_REQUEST__INIT;
        ModalWire__Image image = MODAL_WIRE__IMAGE__INIT;

        image.n_dockerfile_commands = n_commands;
        image.dockerfile_commands = (char **)commands;
        m.image = &image;
        m.app_id = TEXT(app_id);
        m.builder_version = TEXT(builder_version);
        return modal_pack(out, &m.base);
}

int modal_read_image(const void *data, size_t len, char **image_id, struct modal_result *result) {
        UNPACK(m, image_reply, data, len);
        ModalWire__ImageReply *m = (void *)m_base;

        if (!m)
                return -EBADMSG;
        copy_result(result, m->result);
        return modal_copy_id(image_id, m->image_id);
}

int modal_pack_image_join(struct buf *out, const char *image_id, const char *last_entry_id, float timeout) {
        ModalWire__ImageJoinRequest m = MODAL_WIRE__IMAGE_JOIN_REQUEST__INIT;

        m.image_id = TEXT(image_id);
        m.has_timeout = true;
        m.timeout = timeout;
        m.last_entry_id = TEXT(last_entry_id);
        return modal_pack(out, &m.base);
}

int modal_pack_image_delete(struct buf *out, const char *image_id) {
        ModalWire__ImageDeleteRequest m = MODAL_WIRE__IMAGE_DELETE_REQUEST__INIT;

        m.image_id = TEXT(image_id);
        return modal_pack(out, &m.base);
}

int modal_read_image_join(const void *data, size_t len, void (*line)(void *owner, const char *text), void *owner,
                          char **entry_id, struct modal_result *result) {
        UNPACK(m, image_join_reply, data, len);
        ModalWire__ImageJoinReply *m = (void *)m_base;
        char *id;

        if (!m)
                return -EBADMSG;
        copy_result(result, m->result);
        if (m->entry_id && *m->entry_id) {
                if (modal_copy(&id, m->entry_id) < 0)
                        return -ENOMEM;
                free(*entry_id);
                *entry_id = id;
        }
        for (size_t i = 0; i < m->n_task_logs; i++)
                if (m->task_logs[i]->data && *m->task_logs[i]->data)
                        line(owner, m->task_logs[i]->data);
        return 0;
}

/* sandboxes */

static ModalWire__SandboxTag *make_tags(const struct modal_tag *tags, size_t n, ModalWire__SandboxTag ***list) {
        ModalWire__SandboxTag *t = calloc(n + 1, sizeof(*t));

        *list = calloc(n + 1, sizeof(**list));
        if (!t || !*list) {
                free(t);
                return NULL;
        }
        for (size_t i = 0; i < n; i++) {
                modal_wire__sandbox_tag__init(&t[i]);
                t[i].name = TEXT(tags[i].name);
                t[i].value = TEXT(tags[i].value);
                (*list)[i] = &t[i];
        }
        return t;
}

static ModalWire__VolumeMount *make_mounts(const struct modal_volume *volumes, size_t n,
                                           ModalWire__VolumeMount ***list) {
        ModalWire__VolumeMount *v = calloc(n + 1, sizeof(*v));

        *list = calloc(n + 1, sizeof(**list));
        if (!v || !*list) {
                free(v);
                return NULL;
        }
        for (size_t i = 0; i < n; i++) {
                modal_wire__volume_mount__init(&v[i]);
                v[i].volume_id = volumes[i].id;
                v[i].mount_path = volumes[i].path;
                v[i].has_allow_background_commits = v[i].allow_background_commits = true;
                v[i].has_read_only = true;
                v[i].read_only = volumes[i].read_only;
                (*list)[i] = &v[i];
        }
        return v;
}

/*
 * What a sandbox does by itself: nothing, as a shell that waits in its own read. A child would do as well but for the
 * clean-up, which spares only what the probe saw: one that is born after the probe, or anew because a job had killed
 * it, would be killed and born for ever. So that is the last resort, where no pipe can be made.
 *
 * The pipe has its name in /run for a moment: in /tmp, which is empty for a new lease, a first job could find it.
 */
static const char *const entrypoint[] = {
        "/bin/sh",
        "-c",
        "while :; do\n"
        "  for p in /run/.modalpool-wait /tmp/.modalpool-wait; do\n"
        "    rm -f $p && mkfifo $p 2>/dev/null && command exec 3<>$p && rm -f $p && read -r l <&3 && continue 2\n"
        "  done\n"
        "  sleep 86400\n"
        "done\n",
};

static ModalWire__SecretSource *make_sources(char *const *secret_ids, size_t n, ModalWire__SecretSource ***list) {
        ModalWire__SecretSource *s = calloc(n + 1, sizeof(*s));

        *list = calloc(n + 1, sizeof(**list));
        if (!s || !*list) {
                free(s);
                return NULL;
        }
        for (size_t i = 0; i < n; i++) {
                modal_wire__secret_source__init(&s[i]);
                s[i].source_case = MODAL_WIRE__SECRET_SOURCE__SOURCE_SECRET_ID;
                s[i].secret_id = secret_ids[i];
                (*list)[i] = &s[i];
        }
        return s;
}

int modal_pack_create(struct buf *out, const struct modal_definition *d, bool v2) {
        ModalWire__SandboxCreateRequest m = MODAL_WIRE__SANDBOX_CREATE_REQUEST__INIT;
        ModalWire__Sandbox s = MODAL_WIRE__SANDBOX__INIT;
        ModalWire__Resources resources = MODAL_WIRE__RESOURCES__INIT;
        ModalWire__GpuConfig gpu = MODAL_WIRE__GPU_CONFIG__INIT;
        ModalWire__SchedulerPlacement placement = MODAL_WIRE__SCHEDULER_PLACEMENT__INIT;
        ModalWire__NetworkAccess network = MODAL_WIRE__NETWORK_ACCESS__INIT;
        ModalWire__ReadinessProbe ready = MODAL_WIRE__READINESS_PROBE__INIT;
        ModalWire__ProbeCommand command = MODAL_WIRE__PROBE_COMMAND__INIT;
        const char *argv[] = { "/bin/sh", "-c", d->ready_command };
        _cleanup_(cleanup_free) ModalWire__SandboxTag **tags = NULL;
        _cleanup_(cleanup_free) ModalWire__VolumeMount **mounts = NULL;
        _cleanup_(cleanup_free) ModalWire__SandboxTag *tag_space = make_tags(d->tags, d->n_tags, &tags);
        _cleanup_(cleanup_free) ModalWire__VolumeMount *mount_space = make_mounts(d->volumes, d->n_volumes, &mounts);
        _cleanup_(cleanup_free) ModalWire__SecretSource **sources = NULL;
        _cleanup_(cleanup_free) ModalWire__SecretSource *source_space = make_sources(d->secret_ids, d->n_secrets, &sources);

        if (!tag_space || !mount_space || !source_space)
                return -ENOMEM;
        resources.memory_mb = d->memory_mb;
        resources.has_memory_mb = d->memory_mb > 0;
        resources.memory_mb_max = d->memory_mb_max;
        resources.has_memory_mb_max = d->memory_mb_max > 0;
        resources.ephemeral_disk_mb = d->ephemeral_disk_mb;
        resources.has_ephemeral_disk_mb = d->ephemeral_disk_mb > 0;
        resources.milli_cpu_max = d->milli_cpu_max;
        resources.has_milli_cpu_max = d->milli_cpu_max > 0;
        resources.has_milli_cpu = d->milli_cpu > 0;
        resources.milli_cpu = d->milli_cpu;
        if (d->gpu_type && *d->gpu_type) {
                gpu.has_count = true;
                gpu.count = d->gpu_count;
                gpu.gpu_type = TEXT(d->gpu_type);
                resources.gpu = &gpu;
        }
        network.has_type = true;
        network.type = d->block_network ? NETWORK_BLOCKED : d->cidrs.n + d->domains.n ? NETWORK_ALLOWLIST : NETWORK_OPEN;
        network.n_allowed_cidrs = d->cidrs.n;
        network.allowed_cidrs = d->cidrs.names;
        network.n_allowed_domains = d->domains.n;
        network.allowed_domains = d->domains.names;
        placement.n_regions = d->regions.n;
        placement.regions = d->regions.names;

        s.n_entrypoint_args = sizeof(entrypoint) / sizeof(entrypoint[0]);
        s.entrypoint_args = (char **)entrypoint;
        s.image_id = TEXT(d->image_id);
        s.n_secret_ids = d->n_secrets;
        s.secret_ids = (char **)d->secret_ids;
        s.resources = &resources;
        s.has_timeout_secs = true;
        s.timeout_secs = d->lifetime_secs;
        s.n_volume_mounts = d->n_volumes;
        s.volume_mounts = mounts;
        s.placement = d->regions.n ? &placement : NULL;
        s.network_access = &network;
        s.n_inbound_cidr_allowlist = d->inbound_cidrs.n;
        s.inbound_cidr_allowlist = d->inbound_cidrs.names;
        s.cloud = d->cloud && *d->cloud ? TEXT(d->cloud) : NULL;
        s.has_idle_timeout_secs = d->idle_secs > 0;
        s.idle_timeout_secs = d->idle_secs;
        if (d->ready_port) {
                ready.probe_case = MODAL_WIRE__READINESS_PROBE__PROBE_TCP_PORT;
                ready.tcp_port = d->ready_port;
                s.readiness_probe = &ready;
        } else if (d->ready_command && *d->ready_command) {
                command.n_argv = sizeof(argv) / sizeof(argv[0]);
                command.argv = (char **)argv;
                ready.probe_case = MODAL_WIRE__READINESS_PROBE__PROBE_COMMAND;
                ready.command = &command;
                s.readiness_probe = &ready;
        }

        m.app_id = TEXT(d->app_id);
        m.definition = &s;
        m.n_tags = d->n_tags;
        m.tags = tags;
        m.n_secret_sources = v2 ? d->n_secrets : 0;
        m.secret_sources = sources;
        return modal_pack(out, &m.base);
}

int modal_read_created(const void *data, size_t len, struct modal_created *out) {
        UNPACK(m, sandbox_create_v2_reply, data, len);
        ModalWire__SandboxCreateV2Reply *m = (void *)m_base;
        const ModalWire__AccessReply *access;
        bool whole;
        int r;

        *out = (struct modal_created){};
        if (!m)
                return -EBADMSG;
        access = m->access;
        whole = access && access->url && *access->url && access->jwt && *access->jwt;
        r = modal_copy_id(&out->id, m->sandbox_id);
        if (r == 0)
                r = m->task_id && *m->task_id ? modal_copy_id(&out->task_id, m->task_id) : modal_copy(&out->task_id, "");
        if (r == 0)
                r = modal_copy(&out->url, whole ? access->url : "");
        if (r == 0)
                r = modal_copy(&out->jwt, whole ? access->jwt : "");
        if (r == 0)
                r = modal_copy(&out->token, m->sandbox_token);
        return r;
}

static void wipe(char *secret) {
        if (secret)
                explicit_bzero(secret, strlen(secret));
        free(secret);
}

void modal_created_deinit(struct modal_created *c) {
        free(c->id);
        free(c->task_id);
        free(c->url);
        wipe(c->jwt);
        wipe(c->token);
}

int modal_pack_task(struct buf *out, const char *sandbox_id, float timeout) {
        ModalWire__SandboxTaskRequest m = MODAL_WIRE__SANDBOX_TASK_REQUEST__INIT;

        m.sandbox_id = TEXT(sandbox_id);
        m.has_timeout = true;
        m.timeout = timeout;
        return modal_pack(out, &m.base);
}

int modal_read_task(const void *data, size_t len, char **task_id, struct modal_result *result) {
        UNPACK(m, sandbox_task_reply, data, len);
        ModalWire__SandboxTaskReply *m = (void *)m_base;

        if (!m)
                return -EBADMSG;
        copy_result(result, m->task_result);
        return m->task_id && *m->task_id ? modal_copy_id(task_id, m->task_id) : modal_copy(task_id, "");
}

int modal_pack_access(struct buf *out, const char *id) {
        ModalWire__AccessRequest m = MODAL_WIRE__ACCESS_REQUEST__INIT;

        m.id = TEXT(id);
        return modal_pack(out, &m.base);
}

int modal_read_access(const void *data, size_t len, char **url, char **jwt) {
        UNPACK(m, access_reply, data, len);
        ModalWire__AccessReply *m = (void *)m_base;
        char *u, *j;

        if (!m || !m->url || !*m->url || !m->jwt)
                return -EBADMSG;
        u = strdup(m->url);
        j = strdup(m->jwt);
        if (!u || !j) {
                free(u);
                free(j);
                return -ENOMEM;
        }
        *url = u;
        *jwt = j;
        return 0;
}

int modal_pack_wait(struct buf *out, const char *sandbox_id, float timeout) {
        ModalWire__SandboxWaitRequest m = MODAL_WIRE__SANDBOX_WAIT_REQUEST__INIT;

        m.sandbox_id = TEXT(sandbox_id);
        m.has_timeout = true;
        m.timeout = timeout;
        return modal_pack(out, &m.base);
}

int modal_read_wait(const void *data, size_t len, struct modal_result *result) {
        UNPACK(m, sandbox_wait_reply, data, len);
        ModalWire__SandboxWaitReply *m = (void *)m_base;

        if (!m)
                return -EBADMSG;
        copy_result(result, m->result);
        return 0;
}

int modal_pack_terminate(struct buf *out, const char *sandbox_id) {
        ModalWire__SandboxTerminateRequest m = MODAL_WIRE__SANDBOX_TERMINATE_REQUEST__INIT;

        m.sandbox_id = TEXT(sandbox_id);
        return modal_pack(out, &m.base);
}

int modal_pack_list(struct buf *out, const char *app_id, const struct modal_tag *tag, double before) {
        ModalWire__SandboxListRequest m = MODAL_WIRE__SANDBOX_LIST_REQUEST__INIT;
        _cleanup_(cleanup_free) ModalWire__SandboxTag **list = NULL;
        _cleanup_(cleanup_free) ModalWire__SandboxTag *space = make_tags(tag, 1, &list);

        if (!space)
                return -ENOMEM;
        m.app_id = TEXT(app_id);
        m.has_before_timestamp = before > 0;
        m.before_timestamp = before;
        m.n_tags = 1;
        m.tags = list;
        return modal_pack(out, &m.base);
}

int modal_read_list(const void *data, size_t len, const char *tag,
                    int (*take)(void *owner, const struct modal_info *info), void *owner) {
        UNPACK(m, sandbox_list_reply, data, len);
        ModalWire__SandboxListReply *m = (void *)m_base;
        int r = 0;

        if (!m)
                return -EBADMSG;
        for (size_t i = 0; r == 0 && i < m->n_sandboxes; i++) {
                const ModalWire__SandboxInfo *s = m->sandboxes[i];
                struct modal_info info = { .id = s->id, .tag = "", .created = s->created_at };

                for (size_t k = 0; k < s->n_tags; k++)
                        if (s->tags[k]->name && s->tags[k]->value && !strcmp(s->tags[k]->name, tag))
                                info.tag = s->tags[k]->value;
                r = info.id && text_is_id(info.id, SANDBOX_ID_MAX - 1) ? take(owner, &info) : -EBADMSG;
        }
        return r;
}
