"""A certificate authority that lives as long as the simulator."""

import os
import ssl

import trustme


def make(directory):
    """Returns the server's TLS context and the path of the CA certificate to trust."""
    authority = trustme.CA(organization_name="modalpool test CA")
    certificate = authority.issue_cert("localhost", "127.0.0.1", "::1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    certificate.configure_cert(context)
    path = os.path.join(directory, "ca.pem")
    authority.cert_pem.write_to_path(path)
    return context, path
