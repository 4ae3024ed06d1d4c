"""What Modal refuses of a sandbox's definition, tags and names, and in which words."""

import ipaddress
import re

import grpc
from modal_proto import api_pb2

from .dispatch import Refuse

INVALID = grpc.StatusCode.INVALID_ARGUMENT

TAG = re.compile(r"[A-Za-z0-9._-]{1,63}")
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
APP_ID = re.compile(r"ap-[A-Za-z0-9]{22}")
DOMAIN = re.compile(r"(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
CLOUDS = ("aws", "gcp", "oci", "azure", "auto")
REGIONS = re.compile(r"(us|eu|uk|ap|jp|ca|sa|me|mx|af|il|au)(-[a-z]+(-?[0-9])?[a-z]?)?")
LIFETIME_MAX = 86400
ARGUMENTS_MAX = 65536


def tags(messages):
    """The tags as a dict."""
    for tag in messages:
        if not TAG.fullmatch(tag.tag_name) or not TAG.fullmatch(tag.tag_value):
            raise Refuse(INVALID, f"Invalid tag {tag.tag_name!r}: keys and values have 1 to 63 characters, "
                                  "letters, digits, '.', '-' and '_'")
    return {tag.tag_name: tag.tag_value for tag in messages}


def name(text):
    if not NAME.fullmatch(text) or APP_ID.fullmatch(text):
        raise Refuse(INVALID, f"Invalid Sandbox name: {text!r}")


def cidrs(entries, direction):
    for entry in entries:
        try:
            network = ipaddress.IPv4Network(entry)  # strict: no bits behind the prefix
            good = "/" in entry and str(network) == entry
        except ValueError:
            good = False
        if not good:
            raise Refuse(INVALID, f"Invalid CIDR ({direction} IPv4): {entry}")


def network_access(access):
    """Both lists of an allowlist; what they are set for, the router may replace while a sandbox runs."""
    if access.network_access_type != api_pb2.NetworkAccess.ALLOWLIST and (access.allowed_cidrs or access.allowed_domains):
        raise Refuse(INVALID, "allowed_cidrs and allowed_domains need the network access type ALLOWLIST")
    cidrs(access.allowed_cidrs, "outbound")
    for domain in access.allowed_domains:
        if len(domain) > 253 or not DOMAIN.fullmatch(domain):
            raise Refuse(INVALID, f"Invalid domain: {domain}")


def ports(definition):
    seen = set()
    for spec in definition.open_ports.ports:
        if not 1 <= spec.port <= 65535 or spec.port in seen:
            raise Refuse(INVALID, f"Invalid port: {spec.port}")
        seen.add(spec.port)
    if seen and definition.network_access.network_access_type == api_pb2.NetworkAccess.BLOCKED:
        raise Refuse(INVALID, "Cannot specify open ports when network access is blocked")


def definition_v2(sandbox):
    """What only the first kind of sandbox has."""
    gpu = sandbox.resources.gpu_config
    for present, what in ((gpu.count or gpu.type or gpu.gpu_type, "GPUs"), (sandbox.nfs_mounts, "Network file systems"),
                          (sandbox.pty_info.enabled, "PTYs"), (sandbox.i6pn_enabled, "i6pn addresses")):
        if present:
            raise Refuse(INVALID, f"{what} are not supported by V2 Sandboxes")


def definition(sandbox):
    if sandbox.timeout_secs > LIFETIME_MAX:
        raise Refuse(INVALID, f"timeout_secs is {sandbox.timeout_secs}; the most is {LIFETIME_MAX}")
    if sum(len(arg.encode()) for arg in sandbox.entrypoint_args) > ARGUMENTS_MAX:
        raise Refuse(INVALID, f"Total length of CMD arguments must be less than {ARGUMENTS_MAX} characters")
    if sandbox.workdir and not sandbox.workdir.startswith("/"):
        raise Refuse(INVALID, f"workdir must be an absolute path, not {sandbox.workdir!r}")
    if sandbox.cloud_provider_str and sandbox.cloud_provider_str.lower() not in CLOUDS:
        raise Refuse(INVALID, f"Invalid cloud provider: {sandbox.cloud_provider_str}")
    for region in sandbox.scheduler_placement.regions:
        if not REGIONS.fullmatch(region):
            raise Refuse(INVALID, f"Invalid region: {region}")
    if sandbox.name:
        name(sandbox.name)
    network_access(sandbox.network_access)
    cidrs(sandbox.inbound_cidr_allowlist, "inbound")
    ports(sandbox)
