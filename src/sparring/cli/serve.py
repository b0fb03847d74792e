"""The verb `serve`: a model behind HTTP on this machine, to rehearse against."""

from typing import Annotated

import typer

from sparring.cli.guard import guarded, say


@guarded
def serve(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="file.py:factory, a .pt2, TorchScript or .onnx file, timm:, torchvision: or hf:NAME",
        ),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port")] = 8080,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines ask")] = "127.0.0.1",
    name: Annotated[str, typer.Option(help="What the model is called in the address")] = "model",
    labels_only: Annotated[bool, typer.Option("--labels-only", help="Name the winner, and give no scores")] = False,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", min=1, help="Name so many of the best with their scores", show_default="all"),
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Give probabilities, not logits")] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Inputs a request may hold")] = 1024,
    fail_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of requests that fail with 503")] = 0.0,
    latency: Annotated[float, typer.Option(min=0, help="Seconds by which each answer is late")] = 0.0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also SPARRING_DEBUG=1)")] = False,
) -> None:
    """Serve a model over HTTP (Open Inference Protocol, version 2), to rehearse an attack on an endpoint."""
    from torch import nn

    from sparring.models.load import load
    from sparring.serve import Manner, Server

    manner = Manner(labels_only, top_k, probabilities, batch_size, fail_rate, latency)
    loaded = load(model)
    net = loaded.model.to(device) if isinstance(loaded.model, nn.Module) else loaded.model
    with Server(net, name=name, host=host, port=port, manner=manner) as server:
        say(f"{loaded.description} answers at {server.address}; Ctrl-C ends it")
        try:
            server.wait()
        except KeyboardInterrupt:
            say(f"ended after {server.queries:,} inputs")
