from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_UNSPECIFIED: _ClassVar[Side]
    SIDE_BUY: _ClassVar[Side]
    SIDE_SELL: _ClassVar[Side]

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    KIND_MARKET: _ClassVar[Kind]
    KIND_LIMIT: _ClassVar[Kind]
    KIND_STOP: _ClassVar[Kind]

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_SENDING: _ClassVar[Status]
    STATUS_UNKNOWN: _ClassVar[Status]
    STATUS_OPEN: _ClassVar[Status]
    STATUS_FILLED: _ClassVar[Status]
    STATUS_CANCELED: _ClassVar[Status]
    STATUS_EXPIRED: _ClassVar[Status]
    STATUS_REJECTED: _ClassVar[Status]
    STATUS_NOT_PLACED: _ClassVar[Status]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_ACTIVE: _ClassVar[Mode]
    MODE_REDUCING: _ClassVar[Mode]
    MODE_HALTED: _ClassVar[Mode]
SIDE_UNSPECIFIED: Side
SIDE_BUY: Side
SIDE_SELL: Side
KIND_UNSPECIFIED: Kind
KIND_MARKET: Kind
KIND_LIMIT: Kind
KIND_STOP: Kind
STATUS_UNSPECIFIED: Status
STATUS_SENDING: Status
STATUS_UNKNOWN: Status
STATUS_OPEN: Status
STATUS_FILLED: Status
STATUS_CANCELED: Status
STATUS_EXPIRED: Status
STATUS_REJECTED: Status
STATUS_NOT_PLACED: Status
MODE_UNSPECIFIED: Mode
MODE_ACTIVE: Mode
MODE_REDUCING: Mode
MODE_HALTED: Mode

class Order(_message.Message):
    __slots__ = ("client_id", "symbol", "side", "kind", "quantity", "price", "reduce_only", "strategy", "decision_id", "parent")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    REDUCE_ONLY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    symbol: str
    side: Side
    kind: Kind
    quantity: str
    price: str
    reduce_only: bool
    strategy: str
    decision_id: str
    parent: str
    def __init__(self, client_id: _Optional[str] = ..., symbol: _Optional[str] = ..., side: _Optional[_Union[Side, str]] = ..., kind: _Optional[_Union[Kind, str]] = ..., quantity: _Optional[str] = ..., price: _Optional[str] = ..., reduce_only: _Optional[bool] = ..., strategy: _Optional[str] = ..., decision_id: _Optional[str] = ..., parent: _Optional[str] = ...) -> None: ...

class OrderState(_message.Message):
    __slots__ = ("order", "status", "reason", "venue_id", "filled", "sent_at_ms", "changed_at_ms")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VENUE_ID_FIELD_NUMBER: _ClassVar[int]
    FILLED_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    order: Order
    status: Status
    reason: str
    venue_id: str
    filled: str
    sent_at_ms: int
    changed_at_ms: int
    def __init__(self, order: _Optional[_Union[Order, _Mapping]] = ..., status: _Optional[_Union[Status, str]] = ..., reason: _Optional[str] = ..., venue_id: _Optional[str] = ..., filled: _Optional[str] = ..., sent_at_ms: _Optional[int] = ..., changed_at_ms: _Optional[int] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("symbol", "quantity", "price", "exposure", "closing")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    EXPOSURE_FIELD_NUMBER: _ClassVar[int]
    CLOSING_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    quantity: str
    price: str
    exposure: str
    closing: bool
    def __init__(self, symbol: _Optional[str] = ..., quantity: _Optional[str] = ..., price: _Optional[str] = ..., exposure: _Optional[str] = ..., closing: _Optional[bool] = ...) -> None: ...

class Fill(_message.Message):
    __slots__ = ("symbol", "trade_id", "client_id", "venue_id", "side", "quantity", "price", "fee", "time_ms")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    VENUE_ID_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    FEE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    trade_id: int
    client_id: str
    venue_id: str
    side: Side
    quantity: str
    price: str
    fee: str
    time_ms: int
    def __init__(self, symbol: _Optional[str] = ..., trade_id: _Optional[int] = ..., client_id: _Optional[str] = ..., venue_id: _Optional[str] = ..., side: _Optional[_Union[Side, str]] = ..., quantity: _Optional[str] = ..., price: _Optional[str] = ..., fee: _Optional[str] = ..., time_ms: _Optional[int] = ...) -> None: ...

class State(_message.Message):
    __slots__ = ("account", "venue", "mode", "reason", "result", "day_result", "fees", "funding", "gross_exposure", "open_orders", "unknown_orders", "open_positions", "limits")
    class LimitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    DAY_RESULT_FIELD_NUMBER: _ClassVar[int]
    FEES_FIELD_NUMBER: _ClassVar[int]
    FUNDING_FIELD_NUMBER: _ClassVar[int]
    GROSS_EXPOSURE_FIELD_NUMBER: _ClassVar[int]
    OPEN_ORDERS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ORDERS_FIELD_NUMBER: _ClassVar[int]
    OPEN_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    account: str
    venue: str
    mode: Mode
    reason: str
    result: str
    day_result: str
    fees: str
    funding: str
    gross_exposure: str
    open_orders: int
    unknown_orders: int
    open_positions: int
    limits: _containers.ScalarMap[str, str]
    def __init__(self, account: _Optional[str] = ..., venue: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., reason: _Optional[str] = ..., result: _Optional[str] = ..., day_result: _Optional[str] = ..., fees: _Optional[str] = ..., funding: _Optional[str] = ..., gross_exposure: _Optional[str] = ..., open_orders: _Optional[int] = ..., unknown_orders: _Optional[int] = ..., open_positions: _Optional[int] = ..., limits: _Optional[_Mapping[str, str]] = ...) -> None: ...

class PlaceOrderRequest(_message.Message):
    __slots__ = ("order",)
    ORDER_FIELD_NUMBER: _ClassVar[int]
    order: Order
    def __init__(self, order: _Optional[_Union[Order, _Mapping]] = ...) -> None: ...

class PlaceOrderResponse(_message.Message):
    __slots__ = ("order",)
    ORDER_FIELD_NUMBER: _ClassVar[int]
    order: OrderState
    def __init__(self, order: _Optional[_Union[OrderState, _Mapping]] = ...) -> None: ...

class CancelOrderRequest(_message.Message):
    __slots__ = ("client_id",)
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    def __init__(self, client_id: _Optional[str] = ...) -> None: ...

class CancelOrderResponse(_message.Message):
    __slots__ = ("order",)
    ORDER_FIELD_NUMBER: _ClassVar[int]
    order: OrderState
    def __init__(self, order: _Optional[_Union[OrderState, _Mapping]] = ...) -> None: ...

class GetOrderRequest(_message.Message):
    __slots__ = ("client_id",)
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    def __init__(self, client_id: _Optional[str] = ...) -> None: ...

class GetOrderResponse(_message.Message):
    __slots__ = ("order",)
    ORDER_FIELD_NUMBER: _ClassVar[int]
    order: OrderState
    def __init__(self, order: _Optional[_Union[OrderState, _Mapping]] = ...) -> None: ...

class ListOrdersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListOrdersResponse(_message.Message):
    __slots__ = ("orders",)
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    orders: _containers.RepeatedCompositeFieldContainer[OrderState]
    def __init__(self, orders: _Optional[_Iterable[_Union[OrderState, _Mapping]]] = ...) -> None: ...

class ListPositionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPositionsResponse(_message.Message):
    __slots__ = ("positions",)
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    positions: _containers.RepeatedCompositeFieldContainer[Position]
    def __init__(self, positions: _Optional[_Iterable[_Union[Position, _Mapping]]] = ...) -> None: ...

class ListFillsRequest(_message.Message):
    __slots__ = ("symbol", "limit")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    limit: int
    def __init__(self, symbol: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListFillsResponse(_message.Message):
    __slots__ = ("fills",)
    FILLS_FIELD_NUMBER: _ClassVar[int]
    fills: _containers.RepeatedCompositeFieldContainer[Fill]
    def __init__(self, fills: _Optional[_Iterable[_Union[Fill, _Mapping]]] = ...) -> None: ...

class ClosePositionRequest(_message.Message):
    __slots__ = ("symbol", "close_id", "reason")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    CLOSE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    close_id: str
    reason: str
    def __init__(self, symbol: _Optional[str] = ..., close_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ClosePositionResponse(_message.Message):
    __slots__ = ("close_id",)
    CLOSE_ID_FIELD_NUMBER: _ClassVar[int]
    close_id: str
    def __init__(self, close_id: _Optional[str] = ...) -> None: ...

class GetStateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStateResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: State
    def __init__(self, state: _Optional[_Union[State, _Mapping]] = ...) -> None: ...

class HaltRequest(_message.Message):
    __slots__ = ("reason", "by")
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    reason: str
    by: str
    def __init__(self, reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class HaltResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: State
    def __init__(self, state: _Optional[_Union[State, _Mapping]] = ...) -> None: ...

class FlattenRequest(_message.Message):
    __slots__ = ("close_id", "reason", "by")
    CLOSE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    close_id: str
    reason: str
    by: str
    def __init__(self, close_id: _Optional[str] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class FlattenResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: State
    def __init__(self, state: _Optional[_Union[State, _Mapping]] = ...) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("reason", "by")
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    reason: str
    by: str
    def __init__(self, reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: State
    def __init__(self, state: _Optional[_Union[State, _Mapping]] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class BackupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamEventsRequest(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: int
    def __init__(self, after: _Optional[int] = ...) -> None: ...

class StreamEventsResponse(_message.Message):
    __slots__ = ("sequence", "at_ms", "order_sending", "order_changed", "cancel_sending", "fill_booked", "funding_booked", "mode_set", "day_begun", "close_begun", "close_done")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    ORDER_SENDING_FIELD_NUMBER: _ClassVar[int]
    ORDER_CHANGED_FIELD_NUMBER: _ClassVar[int]
    CANCEL_SENDING_FIELD_NUMBER: _ClassVar[int]
    FILL_BOOKED_FIELD_NUMBER: _ClassVar[int]
    FUNDING_BOOKED_FIELD_NUMBER: _ClassVar[int]
    MODE_SET_FIELD_NUMBER: _ClassVar[int]
    DAY_BEGUN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_BEGUN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_DONE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    at_ms: int
    order_sending: OrderSending
    order_changed: OrderChanged
    cancel_sending: CancelSending
    fill_booked: FillBooked
    funding_booked: FundingBooked
    mode_set: ModeSet
    day_begun: DayBegun
    close_begun: CloseBegun
    close_done: CloseDone
    def __init__(self, sequence: _Optional[int] = ..., at_ms: _Optional[int] = ..., order_sending: _Optional[_Union[OrderSending, _Mapping]] = ..., order_changed: _Optional[_Union[OrderChanged, _Mapping]] = ..., cancel_sending: _Optional[_Union[CancelSending, _Mapping]] = ..., fill_booked: _Optional[_Union[FillBooked, _Mapping]] = ..., funding_booked: _Optional[_Union[FundingBooked, _Mapping]] = ..., mode_set: _Optional[_Union[ModeSet, _Mapping]] = ..., day_begun: _Optional[_Union[DayBegun, _Mapping]] = ..., close_begun: _Optional[_Union[CloseBegun, _Mapping]] = ..., close_done: _Optional[_Union[CloseDone, _Mapping]] = ...) -> None: ...

class OrderSending(_message.Message):
    __slots__ = ("order", "recv_window_ms")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    RECV_WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    order: Order
    recv_window_ms: int
    def __init__(self, order: _Optional[_Union[Order, _Mapping]] = ..., recv_window_ms: _Optional[int] = ...) -> None: ...

class OrderChanged(_message.Message):
    __slots__ = ("client_id", "status", "venue_id", "reported", "reason")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    VENUE_ID_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    status: Status
    venue_id: str
    reported: str
    reason: str
    def __init__(self, client_id: _Optional[str] = ..., status: _Optional[_Union[Status, str]] = ..., venue_id: _Optional[str] = ..., reported: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelSending(_message.Message):
    __slots__ = ("client_id",)
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    def __init__(self, client_id: _Optional[str] = ...) -> None: ...

class FillBooked(_message.Message):
    __slots__ = ("fill",)
    FILL_FIELD_NUMBER: _ClassVar[int]
    fill: Fill
    def __init__(self, fill: _Optional[_Union[Fill, _Mapping]] = ...) -> None: ...

class FundingBooked(_message.Message):
    __slots__ = ("symbol", "time_ms", "amount")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    time_ms: int
    amount: str
    def __init__(self, symbol: _Optional[str] = ..., time_ms: _Optional[int] = ..., amount: _Optional[str] = ...) -> None: ...

class ModeSet(_message.Message):
    __slots__ = ("mode", "reason", "by")
    MODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    mode: Mode
    reason: str
    by: str
    def __init__(self, mode: _Optional[_Union[Mode, str]] = ..., reason: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class DayBegun(_message.Message):
    __slots__ = ("day", "result")
    DAY_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    day: int
    result: str
    def __init__(self, day: _Optional[int] = ..., result: _Optional[str] = ...) -> None: ...

class CloseBegun(_message.Message):
    __slots__ = ("symbol", "close_id", "reason")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    CLOSE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    close_id: str
    reason: str
    def __init__(self, symbol: _Optional[str] = ..., close_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CloseDone(_message.Message):
    __slots__ = ("symbol", "close_id")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    CLOSE_ID_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    close_id: str
    def __init__(self, symbol: _Optional[str] = ..., close_id: _Optional[str] = ...) -> None: ...
