"""The code of gateway.proto: `python -m pipeline_assets_tests.generated_protocol` writes it, and a test
compares. It needs grpcio-tools, which the product does not.
"""

from pathlib import Path

from grpc_tools import protoc

REPOSITORY = Path(__file__).parents[1]
FOLDER = "pipeline_assets/services/gateway/proto"
NAME = "gateway_pb2.py"


def generate(target: Path) -> None:
    """Write the code below a directory, as the import path has it."""
    # The path within the package is not the path that the proto's own package demands.
    source = f"-I{FOLDER}={REPOSITORY}/{FOLDER}/pipeline/gateway/v1"
    status = protoc.main(["protoc", source, f"--python_out={target}", f"{FOLDER}/gateway.proto"])
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    generate(REPOSITORY)
