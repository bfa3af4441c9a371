"""`python -m pipeline_assets`: the command pipeline-assets."""

from pipeline_assets.cli import main

main()
