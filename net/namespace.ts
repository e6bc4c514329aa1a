/** Counts up when nodes of two versions cannot work together any more. */
export const PROTOCOL_MAJOR = 1;

/** The namespace of a node that is not told another: nodes of another protocol are not there. */
export const NAMESPACE_DEFAULT = `exo-${PROTOCOL_MAJOR}`;

/** What a namespace looks like: it becomes a part of topics, protocols and names in DNS. */
export const NAMESPACE_FORM = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
