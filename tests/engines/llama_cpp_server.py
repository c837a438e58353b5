"""Run llama.cpp's own server from the package xllamacpp: GGUF file, port. It serves until it is killed."""

import signal
import sys

import xllamacpp


def main(path: str, port: str) -> None:
    """Serve a GGUF file under the name `served` on the loopback."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.model_alias = {"served"}
    parameters.hostnames, parameters.port = ["127.0.0.1"], int(port)
    parameters.n_parallel, parameters.n_ctx = 4, 4096
    parameters.cpuparams.n_threads = 2
    parameters.warmup = False
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    signal.pause()


main(*sys.argv[1:])
