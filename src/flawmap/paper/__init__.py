"""The method of the paper, in its order.

Stage 1 (Fig. 2): ``views`` of an image; ``patch_masking`` hides the least attended patches (Equations 3 and 4);
``projection`` and prototypes; ``clusters`` with Sinkhorn-Knopp (Equation 1); ``self_distillation`` is the loop that all
objectives share; ``pretrain`` puts them together. Stage 2 (Fig. 3): ``heads``, ``dice`` and ``finetune`` (Equation 5).
``fit`` runs both stages.
"""
