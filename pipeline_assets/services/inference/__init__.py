"""The inference service as a program: its consumer group, its features and models, and its process. Fixing
decisions is in trading/model_decider.py; a model's worth is in research/.
"""
