"""The replay exchange: a server of the USD-M futures REST interface, usable without the product.

Nothing here may import the rest of the product, or a fault in the product's own idea of the
interface would hide itself in its tests.
"""
