"""`python -m pipeline_assets.local.exchange`: the replay exchange alone."""

from pipeline_assets.local.exchange.command import exchange

if __name__ == "__main__":
    exchange()
