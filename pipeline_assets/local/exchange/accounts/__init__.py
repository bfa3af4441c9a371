"""Trading on the replay exchange: accounts, signed requests, matching against its candles, private streams.

Nothing here may import the rest of the product. Candles, clock, weights and the public interface belong to
the package above.
"""
