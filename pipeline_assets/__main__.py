"""`python -m pipeline_assets`: the command pipeline-assets."""

from pipeline_assets.cli.main import main

main()
