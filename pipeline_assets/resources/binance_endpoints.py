"""The requests of Binance's signed interface that this program makes, with the weight of each. Sending these
is in binance_account.py.
"""

from typing import NamedTuple


class Endpoint(NamedTuple):
    """One request of the interface: its method, its path, and the weight that it costs."""

    method: str
    path: str
    weight: int = 1
    version: int = 1
    signed: bool = True


TIME = Endpoint("get", "time", signed=False)
EXCHANGE_INFO = Endpoint("get", "exchangeInfo", signed=False)
# Orders cost no request weight: the exchange counts these apart.
NEW_ORDER = Endpoint("post", "order", 0)
NEW_STOP = Endpoint("post", "algoOrder", 0)
ORDER = Endpoint("get", "order")
STOP = Endpoint("get", "algoOrder")
CANCEL_ORDER = Endpoint("delete", "order")
CANCEL_STOP = Endpoint("delete", "algoOrder")
OPEN_ORDERS = Endpoint("get", "openOrders", 40)
OPEN_STOPS = Endpoint("get", "openAlgoOrders", 40)
ALL_STOPS = Endpoint("get", "allAlgoOrders", 5)
POSITIONS = Endpoint("get", "positionRisk", 5, 3)
TRADES = Endpoint("get", "userTrades", 5)
INCOME = Endpoint("get", "income", 30)
ACCOUNT_CONFIG = Endpoint("get", "accountConfig", 5)
SYMBOL_CONFIG = Endpoint("get", "symbolConfig", 5)
SET_LEVERAGE = Endpoint("post", "leverage")
SET_MARGIN_TYPE = Endpoint("post", "marginType")
FEE_BURN = Endpoint("get", "feeBurn", 30)
NEW_LISTEN_KEY = Endpoint("post", "listenKey", signed=False)
KEEP_LISTEN_KEY = Endpoint("put", "listenKey", signed=False)
# This one belongs to the other interface, /sapi, which has a budget of its own.
KEY_RIGHTS = Endpoint("get", "account/apiRestrictions", 0)
