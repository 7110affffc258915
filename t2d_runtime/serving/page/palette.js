// Colours of labels: those of t2d_runtime/results/palette.py, in its order.

const BACKGROUND = [90, 90, 90];

const COLOURS = toRows(
  [
    "dd444400ee880055cc007700ddbbffffaa0000aabbaa66ee99008877aa00884400ff66bb44ddff7766993388ffaa7700dd9999007777",
    "9999ddaacc88cc44996633aaaa1144ee7711119966dd88ffbbdd0000ccaabb7777ffbb997744669944bb0088bb66662200bbff88aa77",
    "6655dd445588ff6677aa5544bb77bb22cc55cc9900ff99cc99bbff77880011eeccbbbb000099008877cc006644eecc22bb1177ff9966",
    "994488bb22005599dd8888ffdd66ddcc99ccdd669966bbcccc6633bb44664466bbbb8855ff99ff00bb7799993388cc00ddbb7788ddcc",
    "8822aa0077dd88dd77aa668888bb55ee4477773388994455338833ff8899bbaa66cc114444aa88bb44bbee550000668877aaff668855",
    "dd8866dd6666bb99ff8866339922663377990099994444bb6655aa3377449966aa22aa446688bb9922226677ee33887788ccee885577",
    "eeaabb00dd99ff7755cc4400ee88dd4466ee4466008866ee667700bb88ddaa775577cc88ee99335577ccdd88aaaaaa2277996666bb99",
    "7744bb00cceebbaaee88771100dddd2255aabb8800aa44008855aaddbb33dd55bbddaadd7766ccffbb66dd77bbbb77ff55bb1111aadd",
    "77ccccaa2299cc5577bb66ccaaddaa998844665588008899cc8888ffaaee4499bbff554477ddaa5599ff3388ddbbcc5555993311bbbb",
    "55669977aadd77550066aa55aa6666bb779966dd55aabb66cc7711aa33660077bbaa66229999ffcc3377eeaa889955dd7788ddcc9966",
    "aa55998833556677aa88ccaaaa88bbaa77dd00cccc00bbddff77aadd8800dd778811ddbbaaccff00cc889966cc00aaff9944334455cc",
    "88553366449988ddee77bbee0066aa00bb99ddcc6666bb77ff8833dd99ee88bb00ee77ee883377bb339999aaee33eeaaddaa5566cc66",
    "aa995555bb559988ddff5588cc33330099ee9977ffaa88ffdd33660066dd9977aa995500ccaa00bbbbffbbdd66aacc22884499ff8877",
    "dd4488cc77556688ffff6622ee55aacc77dd00dd77aa3333009944aa5566bb115599cc66447711bb55887799ccbb5500cc55ccddaaff",
    "aa55cc993300bb66aa7799ee",
  ].join(""),
);

/**
 * Colour [r, g, b] of each label; a word has the same one with and without a background.
 * @param {number} count of labels
 * @param {boolean} background whether label 0 is background
 */
export function labelColours(count, background) {
  const first = background ? [BACKGROUND] : [];
  return [...first, ...Array.from({ length: count - first.length }, (_, index) => COLOURS[index % COLOURS.length])];
}

/** @param {string} hex six digits a colour */
function toRows(hex) {
  return (hex.match(/.{6}/g) ?? []).map((colour) => [0, 2, 4].map((place) => parseInt(colour.slice(place, place + 2), 16)));
}
