// Contrast of colours as WCAG 2.2 counts it (1.4.3, 1.4.11), from the computed styles of a page.
const numbers = (text) => {
  const [r, g, b, a = 1] = text.match(/[0-9.]+/g).map(Number);
  return [r, g, b, a];
};
const over = ([r, g, b, a], under) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a)).concat(1);
const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const contrast = (a, b) => {
  const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const ground = (element) => {
  if (!element) return [255, 255, 255, 1];
  const own = numbers(getComputedStyle(element).backgroundColor);
  return over(own, own[3] < 1 ? ground(element.parentElement) : own);
};

// The ring around what has the focus, 0 where there is none.
function focusRing() {
  const element = document.activeElement, style = getComputedStyle(element);
  const isSeen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  const ring = isSeen ? contrast(numbers(style.outlineColor), ground(element.parentElement)) : 0;
  return { id: element.id, contrast: ring };
}

// [what, contrast, needed] of all texts, symbols and edges of controls that are shown and can be used.
function contrasts() {
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    if (!element.checkVisibility() || element.closest(':disabled, option, .unseen')) continue;
    const style = getComputedStyle(element), behind = ground(element), size = parseFloat(style.fontSize);
    const what = `${element.tagName} ${element.id} ${element.textContent.trim().slice(0, 20)}`;
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const isField = element.matches('input[type="text"], select'), isSymbol = element.matches('svg');
    const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (hasText || isField || isSymbol) {
      const colour = over(numbers(isSymbol ? style.stroke : style.color), behind);
      found.push([`text of ${what}`, contrast(colour, behind), isLarge || isSymbol ? 3 : 4.5]);
    }
    if (isField || element.matches('button:not(.quiet, #tools *), .key')) {
      const outside = ground(element.parentElement), edge = over(numbers(style.borderTopColor), outside);
      found.push([`edge of ${what}`, Math.max(contrast(edge, outside), contrast(behind, outside)), 3]);
    }
  }
  return found;
}
