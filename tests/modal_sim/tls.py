"""A certificate authority that lives as long as the simulator."""

import os
import ssl

import trustme


def make(directory):
    """The TLS contexts of gRPC and of tunnels, and the path of the CA certificate to trust."""
    authority = trustme.CA(organization_name="modalpool test CA")
    certificate = authority.issue_cert("localhost", "127.0.0.1", "::1")
    contexts = []
    for protocols in (["h2"], ["http/1.1"]):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(protocols)
        certificate.configure_cert(context)
        contexts.append(context)
    path = os.path.join(directory, "ca.pem")
    authority.cert_pem.write_to_path(path)
    return *contexts, path
