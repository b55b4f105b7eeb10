"""Every section of the configuration, found from the whole."""

from __future__ import annotations

from pydantic import BaseModel


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        parts = [field.annotation]
        while parts:
            part = parts.pop()
            parts += getattr(part, "__args__", ())
            if isinstance(part, type) and not hasattr(part, "__args__") and issubclass(part, BaseModel):
                found |= models(part)
    return found
