"""The error replies of signed requests and orders, as Binance words them. Other modules decide on them.

Codes and texts: https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code
"""

from pipeline_assets.local.exchange.errors import ApiError

UNKNOWN_TEXT = "Unknown error, please check your request or try again later."
"""HTTP 503 with this text: the order may have been accepted."""

UNAVAILABLE_TEXT = "Service Unavailable."
"""HTTP 503 with this text: the request has failed."""

OVERLOADED_TEXT = (
    "Request throttled by system-level protection. Reduce-only/close-position orders are exempt. "
    "Please try again."
)

TEXTS = {
    -1014: "Unsupported order combination.",
    -1022: "Signature for this request is not valid.",
    -1106: "Parameter '{}' sent when not required.",
    -1111: "Precision is over the maximum defined for this asset.",
    -1115: "Invalid timeInForce.",
    -1116: "Invalid orderType.",
    -1117: "Invalid side.",
    -1125: "This listenKey does not exist.",
    -2011: "Unknown order sent.",
    -2013: "Order does not exist.",
    -2014: "API-key format invalid.",
    -2015: "Invalid API-key, IP, or permissions for action.",
    -2019: "Margin is insufficient.",
    -2021: "Order would immediately trigger.",
    -2022: "ReduceOnly Order is rejected.",
    -2025: "Reach max open order limit.",
    -2027: "Exceeded the maximum allowable position at current leverage.",
    -2028: "Leverage is smaller than permitted: insufficient margin balance.",
    -4003: "Quantity less than or equal to zero.",
    -4004: "Quantity less than min quantity.",
    -4005: "Quantity greater than max quantity.",
    -4006: "Stop price less than zero.",
    -4013: "Price less than min price.",
    -4014: "Price not increased by tick size.",
    -4015: "Client order id is not valid.",
    -4016: "Limit price can't be higher than {}.",
    -4023: "Qty not increased by step size.",
    -4024: "Limit price can't be lower than {}.",
    -4028: "Leverage {} is not valid",
    -4045: "Reach max stop order limit.",
    -4046: "No need to change margin type.",
    -4047: "Margin type cannot be changed if there exists open orders.",
    -4048: "Margin type cannot be changed if there exists position.",
    -4051: "Isolated balance insufficient.",
    -4054: "Cannot add position margin: position is 0.",
    -4055: "Amount must be positive.",
    -4059: "No need to change position side.",
    -4061: "Order's position side does not match user's setting.",
    -4067: "Position side cannot be changed if there exists open orders.",
    -4068: "Position side cannot be changed if there exists position.",
    -4109: "This account is inactive.",
    -4116: "ClientOrderId is duplicated.",
    -4118: "ReduceOnly Order Failed. Please check your existing position and open orders",
    -4120: "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
    -4130: "An open stop or take profit order with GTE and closePosition in the direction is existing.",
    -4131: "The counterparty's best price does not meet the PERCENT_PRICE filter limit.",
    -4136: "Target strategy invalid for orderType {},closePosition true",
    -4137: "Quantity must be zero with closePosition equals true.",
    -4138: "Reduce only must be true with closePosition equals true.",
    -4140: "Invalid symbol status for opening position.",
    -4141: "Symbol is closed.",
    -4142: "REJECT: take-profit or stop order will be triggered immediately.",
    -4164: "Order's notional must be no smaller than {} (unless you choose reduce only).",
    -4171: "Multi-Assets Mode is not changed.",
    -5021: "Due to the order could not be filled immediately, the FOK order has been rejected. "
    "The order will not be recorded in the order history",
    -5022: "Due to the order could not be executed as maker, the Post Only order will be rejected. "
    "The order will not be recorded in the order history",
}
"""The texts, by code; braces take a value of the request."""


def refused(code: int, *values: object) -> ApiError:
    """Return the refusal with a code of `TEXTS`, HTTP 400 or 401 as the real exchange has it."""
    status = 401 if code in (-2014, -2015) else 400
    return ApiError(status, code, TEXTS[code].format(*values))


def outside_window() -> ApiError:
    """Return the refusal of a request that took longer than its recvWindow."""
    return ApiError(400, -1021, "Timestamp for this request is outside of the recvWindow.")


def ahead_of_time() -> ApiError:
    """Return the refusal of a request that comes from the future."""
    text = "Timestamp for this request was 1000ms ahead of the server's time."
    return ApiError(400, -1021, text)


def too_many_orders(limit: int, interval: str, retry_after: int) -> ApiError:
    """Return the refusal of an order above the order-rate limit."""
    text = f"Too many new orders; current limit is {limit} orders per {interval}."
    return ApiError(429, -1015, text, retry_after)


def status_unknown(code: int = -1000) -> ApiError:
    """Return HTTP 503 of an order that may have been accepted."""
    return ApiError(503, code, UNKNOWN_TEXT)


def unavailable() -> ApiError:
    """Return HTTP 503 of a request that has failed."""
    return ApiError(503, -1000, UNAVAILABLE_TEXT)


def overloaded() -> ApiError:
    """Return HTTP 503 of an order refused by the overload protection."""
    return ApiError(503, -1008, OVERLOADED_TEXT)
