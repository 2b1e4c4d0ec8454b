"""Price lists: what an instance costs by the hour, with purchase kind, region and date."""

from __future__ import annotations

from trainshed.core.load import Table
from trainshed.hardware.schema import PURCHASES, Price
from trainshed.hardware.values import Values


def read_prices(key: str, table: Table, values: Values) -> tuple[Price, ...]:
    """The offers of one entry of a price file, per chip-hour, in the order in which they are preferred."""
    instance, chips = table.text("instance"), table.integer("chips")
    prices: list[Price] = []
    for offer in table.tables("offers"):
        purchase = offer.choice("purchase", PURCHASES)
        region = offer.text("region", "")
        seen = any(p.purchase == purchase for p in prices)
        name = f"price/{key}.{purchase}" + (f".{region or offer.data.get('price', {}).get('date', '')}" if seen else "")
        whole = offer.number("price", "USD/h", name=name)
        offer.done()
        note = f"{float(whole.value):g} USD/h for {chips} chip{'s' if chips > 1 else ''} of {instance}"
        each = whole.with_value(whole.value / chips, note=f"{note}; {whole.note}".rstrip("; "))
        prices.append(
            Price(
                instance=instance, chips=chips, purchase=purchase,  # type: ignore[arg-type]
                region=region, per_chip_hour=values.apply(each),
            )
        )  # fmt: skip
    table.done()
    return tuple(sorted(prices, key=lambda p: PURCHASES.index(p.purchase)))
