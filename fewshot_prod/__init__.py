"""Few-shot product categorisation: adapt encoders trained on a full catalog to categories of five products.

The stages, in the order in which data flows through them::

    catalog -> splits -> pretrain / metatrain -> encoder (-> features) -> episodes + method
            -> evaluation -> results -> tables / plots

Importing this package imports neither torch nor pandas: import the stage you need.
"""

__version__ = "0.1.0"
