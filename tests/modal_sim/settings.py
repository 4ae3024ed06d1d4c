"""What the command line and POST /config can set, in one place."""

import dataclasses


@dataclasses.dataclass
class Settings:
    token_id: str = "ak-simulator"
    token_secret: str = "as-simulator"
    tls: bool = True
    router_scheme: str = "auto"     # auto, http or https: what the router's url begins with
    jwt_lifetime: float = 3600.0    # seconds; a change holds for the tokens given out from then on
    auth_token_lifetime: float = 1200.0  # seconds that an x-modal-auth-token lasts, given out from then on; 0: it says no end
    v2: bool = True                 # false: the calls of the second kind of sandbox are UNIMPLEMENTED
    sandbox_token: str = "give"     # of SandboxCreateV2: none is given; one is; demand: calls for the sandbox must bring it
    access_at_create: bool = True   # SandboxCreateV2 answers with the access to the router too
    sandbox: str = "bubblewrap"     # bubblewrap or gvisor: what makes the sandboxes from then on
    build_secs: float = 0.05        # how long an image build takes
    start_delay_secs: float = 0.0   # added to the start of every sandbox
    exec_delay_secs: float = 0.0    # added to the start of every exec; on Modal it takes about 0.2
    status_lag_secs: float = 0.0    # how long a dead sandbox still looks alive to SandboxWait and SandboxList
    fs_tools: bool = True           # /__modal/.bin/modal-sandbox-fs-tools is there, in sandboxes made from then on
    disk_bytes: int = 2 << 30       # that a sandbox can write, those made from then on
    list_page: int = 20             # sandboxes in one answer of SandboxList
    max_sandboxes: int = 500        # live at one time; more is RESOURCE_EXHAUSTED
    capacity: int = 0               # that have room at one time; then V2 is RESOURCE_EXHAUSTED, and V1 waits; 0: no limit
    price_core_second: float = 0.00003942   # dollars; what SandboxGetStats reckons with
    price_gib_second: float = 0.00000672
    spool_max: int = 4 << 30        # bytes of one output stream; then the process waits
    chunk: int = 256 << 10          # bytes in one message of an output stream
    unknown_exec: str = "refuse"    # what is read or waited for of an exec that is not there: refuse, hold until it is, end at once
    stdio_end: str = "exit"         # exit: a stream ends with its process; eof: when nobody holds it open

    def update(self, values):
        known = {f.name: f.type for f in dataclasses.fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"no setting is called {name!r}; there are {', '.join(known)}")
            old = getattr(self, name)
            if isinstance(old, float) and isinstance(value, int):
                value = float(value)
            if type(value) is not type(old):
                raise ValueError(f"{name} must be a {type(old).__name__}, not {value!r}")
            setattr(self, name, value)


current = Settings()
