// SPDX-License-Identifier: MIT

// The floor: the least that a client on gRPC's own C core can do for a job.
//
// TaskExecStart; then at once TaskExecStdioRead for both streams and TaskExecWait. One thread, one completion
// queue, one channel, no retry, no time limit. It does what bench.py asks for, line by line; see there.

#include <grpcpp/grpcpp.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "client.grpc.pb.h"
#include "router.grpc.pb.h"

using Router = modal::task_command_router::TaskCommandRouter;
using Control = modal::client::ModalClient;

namespace {

struct sandbox {
        std::string task, authorization;
};

std::shared_ptr<grpc::ChannelCredentials> credentials;
std::unique_ptr<Control::Stub> control;
std::unique_ptr<Router::Stub> router;
std::vector<sandbox> sandboxes;
grpc::CompletionQueue queue;
std::string app, image;

[[noreturn]] void die(const std::string &what) {
        std::cerr << "floor: " << what << "\n";
        exit(1);
}

void check(const grpc::Status &s, const char *what) {
        if (!s.ok())
                die(std::string(what) + ": " + s.error_message());
}

int64_t now_ns() {
        return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

int64_t cpu_ns() {
        struct timespec ts;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
        return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

std::string uuid() {
        static std::mt19937_64 random(std::random_device{}());
        uint64_t a = random(), b = random();
        char text[37];

        snprintf(text, sizeof(text), "%08x-%04x-4%03x-a%03x-%012llx", (unsigned)(a >> 32), (unsigned)(a >> 16 & 0xffff),
                 (unsigned)(a & 0xfff), (unsigned)(b >> 52), (unsigned long long)(b & 0xffffffffffff));
        return text;
}

// a job

struct job;

enum what { STARTED, STDOUT, STDERR, WAITED, N_WHATS };

struct tag {
        struct job *job;
        enum what what;
};

struct output {
        std::unique_ptr<grpc::ClientContext> context;
        std::unique_ptr<grpc::ClientAsyncReader<modal_wire::ExecReadReply>> reader;
        modal_wire::ExecReadReply part;
        grpc::Status status;
        bool open, finishing;
};

struct job {
        const sandbox *where;
        const std::string *command;
        uint64_t size, got;
        std::string id;
        int left; // jobs still to do here
        int pending;
        tag tags[N_WHATS];
        std::unique_ptr<grpc::ClientContext> start_context, wait_context;
        std::unique_ptr<grpc::ClientAsyncResponseReader<modal::task_command_router::Started>> start;
        std::unique_ptr<grpc::ClientAsyncResponseReader<modal_wire::ExecWaitReply>> wait;
        modal::task_command_router::Started started;
        modal_wire::ExecWaitReply end;
        grpc::Status status;
        output outputs[2];

        std::unique_ptr<grpc::ClientContext> context() const {
                auto c = std::make_unique<grpc::ClientContext>();

                c->AddMetadata("authorization", where->authorization);
                return c;
        }

        void begin() {
                modal_wire::ExecStartRequest q;

                // These live in their contexts' memory.
                start.reset();
                wait.reset();
                for (output &o : outputs)
                        o.reader.reset();
                id = uuid();
                got = 0;
                q.set_task_id(where->task);
                q.set_exec_id(id);
                for (const char *arg : { "bash", "-c", command->c_str() })
                        q.add_args(arg);
                q.set_stdout_config(1); // PIPE
                q.set_stderr_config(1);
                start_context = context();
                start = router->AsyncTaskExecStart(start_context.get(), q, &queue);
                start->Finish(&started, &status, &tags[STARTED]);
        }

        ~job() {
                for (output &o : outputs)
                        o.reader.reset();
        }

        void follow() {
                modal_wire::ExecReadRequest q;
                modal_wire::ExecRequest w;

                check(status, "TaskExecStart");
                q.set_task_id(where->task);
                q.set_exec_id(id);
                for (int i = 0; i < 2; i++) {
                        q.set_fd(i);
                        outputs[i].context = context();
                        outputs[i].open = outputs[i].finishing = false;
                        outputs[i].reader = router->AsyncTaskExecStdioRead(outputs[i].context.get(), q, &queue,
                                                                           &tags[STDOUT + i]);
                }
                w.set_task_id(where->task);
                w.set_exec_id(id);
                wait_context = context();
                wait = router->AsyncTaskExecWait(wait_context.get(), w, &queue);
                wait->Finish(&end, &status, &tags[WAITED]);
                pending = 3;
        }

        // Whether that was the last of it.
        bool progress(enum what what, bool ok) {
                output *o = &outputs[what - STDOUT];

                if (what == WAITED) {
                        check(status, "TaskExecWait");
                        if (end.code() != 0)
                                die("the exit code is wrong");
                        return --pending == 0;
                }
                if (o->finishing) {
                        check(o->status, "TaskExecStdioRead");
                        return --pending == 0;
                }
                if (ok && o->open)
                        got += o->part.data().size();
                if (ok) {
                        o->open = true;
                        o->reader->Read(&o->part, &tags[what]);
                } else {
                        o->finishing = true;
                        o->reader->Finish(&o->status, &tags[what]);
                }
                return false;
        }
};

/* Jobs one after another in each of @at sandboxes; the time that each took. */
std::vector<int64_t> run(int n, int at, uint64_t size, const std::string &command) {
        std::vector<job> jobs(at);
        std::vector<int64_t> took;
        int64_t began = now_ns();
        int running = at;
        void *found;
        bool ok;

        for (int i = 0; i < at; i++) {
                jobs[i].where = &sandboxes[i];
                jobs[i].command = &command;
                jobs[i].size = size;
                jobs[i].left = n;
                for (int w = 0; w < N_WHATS; w++)
                        jobs[i].tags[w] = { &jobs[i], (enum what)w };
                jobs[i].begin();
        }
        while (running > 0 && queue.Next(&found, &ok)) {
                tag *t = static_cast<tag *>(found);
                job *j = t->job;

                if (t->what == STARTED) {
                        j->follow();
                } else if (j->progress(t->what, ok)) {
                        if (j->got != size)
                                die("the output has the wrong size");
                        took.push_back(now_ns() - began);
                        began = now_ns();
                        if (--j->left > 0)
                                j->begin();
                        else
                                running--;
                }
        }
        if (at > 1)
                took.clear();
        return took;
}

// sandboxes

std::unique_ptr<grpc::ClientContext> caller() {
        auto c = std::make_unique<grpc::ClientContext>();

        c->AddMetadata("x-modal-client-type", "9");
        c->AddMetadata("x-modal-client-version", "1.0.0");
        c->AddMetadata("x-modal-token-id", getenv("MODAL_TOKEN_ID"));
        c->AddMetadata("x-modal-token-secret", getenv("MODAL_TOKEN_SECRET"));
        return c;
}

std::string target_of(const std::string &url) {
        return url.substr(url.find("//") + 2);
}

std::shared_ptr<grpc::Channel> open_channel(const std::string &url) {
        grpc::ChannelArguments args;

        args.SetMaxReceiveMessageSize(-1);
        args.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0); // no pings beside the calls
        return grpc::CreateCustomChannel(target_of(url), credentials, args);
}

void create() {
        modal_wire::SandboxCreateRequest q;
        modal_wire::IdReply s;
        modal_wire::SandboxTaskRequest tq;
        modal_wire::SandboxTaskReply t;
        modal_wire::AccessRequest aq;
        modal_wire::AccessReply a;

        q.set_app_id(app);
        q.mutable_definition()->set_image_id(image);
        q.mutable_definition()->set_timeout_secs(3600);
        q.mutable_definition()->add_entrypoint_args("sleep");
        q.mutable_definition()->add_entrypoint_args("3600");
        check(control->SandboxCreate(caller().get(), q, &s), "SandboxCreate");
        tq.set_sandbox_id(s.id());
        check(control->SandboxGetTaskId(caller().get(), tq, &t), "SandboxGetTaskId");
        aq.set_id(t.task_id());
        check(control->TaskGetCommandRouterAccess(caller().get(), aq, &a), "TaskGetCommandRouterAccess");
        if (!router)
                router = Router::NewStub(open_channel(a.url()));
        sandboxes.push_back({ t.task_id(), "Bearer " + a.jwt() });
}

void set_up() {
        modal_wire::EnvironmentRequest eq;
        modal_wire::EnvironmentReply e;
        modal_wire::AppRequest aq;
        modal_wire::IdReply a;
        modal_wire::ImageRequest iq;
        modal_wire::ImageReply i;
        std::ifstream file(getenv("SSL_CERT_FILE"));
        std::stringstream ca;

        ca << file.rdbuf();
        credentials = grpc::SslCredentials({ ca.str(), "", "" });
        control = Control::NewStub(open_channel(getenv("MODAL_SERVER_URL")));
        check(control->EnvironmentGetOrCreate(caller().get(), eq, &e), "EnvironmentGetOrCreate");
        aq.set_app_name("bench");
        aq.set_creation(1); // if missing
        check(control->AppGetOrCreate(caller().get(), aq, &a), "AppGetOrCreate");
        app = a.id();
        iq.set_app_id(app);
        iq.set_builder_version(e.metadata().settings().image_builder_version());
        iq.mutable_image()->add_dockerfile_commands("FROM debian:12-slim");
        do // until it is built
                check(control->ImageGetOrCreate(caller().get(), iq, &i), "ImageGetOrCreate");
        while (i.result().status() == 0);
        image = i.image_id();
}

void answer(const std::string &line) {
        std::istringstream words(line);
        std::string verb, command;
        int n, at;
        uint64_t size;
        int64_t began, used;

        if (!(words >> verb >> n >> at >> size) || !std::getline(words >> std::ws, command))
                die("a request is not understood: " + line);
        while ((int)sandboxes.size() < at)
                create();
        began = now_ns();
        used = cpu_ns();
        std::vector<int64_t> took = run(n, at, size, command);
        printf("{\"wall_ns\": %lld, \"cpu_ns\": %lld, \"ns\": [", (long long)(now_ns() - began),
               (long long)(cpu_ns() - used));
        for (size_t i = 0; i < took.size(); i++)
                printf("%s%lld", i ? ", " : "", (long long)took[i]);
        printf("]}\n");
        fflush(stdout);
}

} // namespace

int main() {
        std::string line;

        set_up();
        create();
        run(1, 1, 0, "true");
        printf("{\"ready\": true}\n");
        fflush(stdout);
        while (std::getline(std::cin, line))
                answer(line);
        _exit(0); // its sandboxes end with the server
}
